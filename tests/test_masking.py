"Masking: the paper's rates, what is never touched, the loss and the accuracy of the guesses, the line to beat."

import math

import pytest
import torch
import torch.nn.functional as F

from microbert_course.training.masking import (
    check_ids,
    check_shapes,
    corrupt,
    linear_cross_entropy,
    mask_exactly,
    mask_tokens,
    mask_whole_words,
    masked_accuracy,
    masked_cross_entropy,
    repeating_loss,
    unigram_log_probs,
)

INPUT_IDS = torch.arange(40_000).reshape(80, 500) + 5
NOTHING_SPECIAL = torch.zeros_like(INPUT_IDS, dtype=torch.bool)


def mask(input_ids=INPUT_IDS, special=NOTHING_SPECIAL, seed=0, vocab_size=40_005, **options):
    return mask_tokens(input_ids, special, 4, vocab_size, generator=torch.Generator().manual_seed(seed), **options)


def test_masking_rates_match_the_paper():
    "15 % are chosen; of those 80 % become [MASK], 10 % another word, and 10 % stay (Devlin et al. 2019, §3.1)."
    masked, labels = mask()
    chosen = labels != -100
    other = (masked != 4) & (masked != INPUT_IDS)
    num_chosen = chosen.sum().item()
    for share, p, n in [(chosen.float().mean(), 0.15, INPUT_IDS.numel()),
                        ((masked[chosen] == 4).float().mean(), 0.8, num_chosen),
                        (other[chosen].float().mean(), 0.1, num_chosen),
                        ((masked == INPUT_IDS)[chosen].float().mean(), 0.1, num_chosen)]:
        assert abs(share.item() - p) < 4 * math.sqrt(p * (1 - p) / n)  # four standard errors


def test_labels_are_the_originals_and_the_rest_is_left_alone():
    masked, labels = mask()
    chosen = labels != -100
    assert torch.equal(labels[chosen], INPUT_IDS[chosen])
    assert torch.equal(masked[~chosen], INPUT_IDS[~chosen])
    assert INPUT_IDS[0, 0] == 5 and INPUT_IDS[-1, -1] == 40_004  # the input itself was not written to


def test_special_tokens_and_padding_are_never_chosen():
    input_ids = torch.randint(0, 12, (64, 64), generator=torch.Generator().manual_seed(1))
    masked, labels = mask(input_ids, input_ids < 5, vocab_size=12, mlm_probability=0.9)
    assert (labels[input_ids < 5] == -100).all()
    assert torch.equal(masked[input_ids < 5], input_ids[input_ids < 5])
    assert (labels != -100).float().mean() > 0.4  # the others were


@pytest.mark.parametrize("num_special_tokens", [5, 7])
def test_random_words_are_ordinary_and_evenly_spread(num_special_tokens):
    input_ids = torch.full((200, 200), 9)
    masked, labels = mask(input_ids, input_ids < 5, vocab_size=15, mlm_probability=0.9,
                          num_special_tokens=num_special_tokens)
    swapped = masked[(masked != 4) & (masked != 9)]
    counts = torch.bincount(swapped, minlength=15).float()
    ordinary = [i for i in range(num_special_tokens, 15) if i != 9]
    assert counts.sum() == counts[ordinary].sum()
    expected = len(swapped) / len(ordinary)
    assert ((counts[ordinary] - expected).abs() < 4.5 * math.sqrt(expected)).all()


def test_the_same_generator_gives_the_same_batch_and_another_seed_another():
    first, again, other = mask(seed=3), mask(seed=3), mask(seed=4)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_masking_draws_from_its_generator_alone():
    state = torch.get_rng_state()
    mask()
    assert torch.equal(state, torch.get_rng_state())


def test_an_empty_batch_stays_empty():
    masked, labels = mask(INPUT_IDS[:0], NOTHING_SPECIAL[:0])
    assert masked.shape == labels.shape == (0, 500)


@pytest.mark.parametrize(("changes", "message"), [
    ({"mlm_probability": 0}, "mlm_probability 0 is not between 0 and 1"),
    ({"mlm_probability": 1.0}, "mlm_probability 1.0 is not between 0 and 1"),
    ({"mlm_probability": float("nan")}, "mlm_probability nan is not between 0 and 1"),
    ({"input_ids": torch.ones(2, 3)}, "input_ids has dtype torch.float32: convert it with .long"),
    ({"input_ids": torch.full((2, 3), 12)}, "input_ids goes from 12 to 12, outside a vocabulary of 12"),
    ({"input_ids": torch.full((2, 3), -1)}, "input_ids goes from -1 to -1"),
    ({"special_tokens_mask": torch.zeros(2, 3).long()}, "has dtype torch.int64: convert it with .bool"),
    ({"special_tokens_mask": torch.zeros(3).bool()}, r"mask has the shape \(3,\) and input_ids \(2, 3\)"),
    ({"mask_token_id": 12}, "mask_token_id 12 is outside a vocabulary of 12"),
    ({"mask_token_id": -1}, "mask_token_id -1 is outside"),
    ({"num_special_tokens": 12}, "num_special_tokens 12 leaves no ordinary token"),
])
def test_wrong_input_is_named_at_the_door(changes, message):
    good = {"input_ids": torch.full((2, 3), 7), "special_tokens_mask": torch.zeros(2, 3).bool(), "mask_token_id": 4,
            "vocab_size": 12}
    mask_tokens(**good)
    with pytest.raises(ValueError, match=message):
        mask_tokens(**{**good, **changes})


def test_the_draws_of_a_seed_stay_what_they_were():
    "A saved run repeats its masks from the seed alone: luck, then fate, then random ids, in this order for ever."
    input_ids = torch.arange(24).reshape(3, 8) + 5
    generator = torch.Generator().manual_seed(7)
    luck, fate = torch.rand((3, 8), generator=generator), torch.rand((3, 8), generator=generator)
    random_ids = torch.randint(5, 40, (3, 8), generator=generator)
    chosen = luck < 0.4
    expected = torch.where(chosen & (fate < 0.8), 4, torch.where(chosen & (fate < 0.9), random_ids, input_ids))
    masked, labels = mask(input_ids, torch.zeros(3, 8).bool(), seed=7, vocab_size=40, mlm_probability=0.4)
    assert torch.equal(masked, expected) and torch.equal(labels, torch.where(chosen, input_ids, -100))


def exactly(input_ids, special, seed=0, vocab_size=40_005, **options):
    return mask_exactly(input_ids, special, 4, vocab_size, generator=torch.Generator().manual_seed(seed), **options)


def test_an_exact_count_is_the_share_rounded_down_or_up_and_the_batch_is_off_by_one_at_most():
    "Rows of 8 to 60 ordinary tokens between specials: no row and no batch strays, whatever the seed."
    lengths = torch.arange(8, 61)
    input_ids = torch.where(torch.arange(64) < lengths[:, None], 9, 0)  # (53, 64), the rest is padding
    for seed in range(20):
        _, labels = exactly(input_ids, input_ids < 5, seed)
        counts, share = (labels != -100).sum(1), 0.15 * lengths
        assert ((counts == share.floor()) | (counts == share.ceil())).all()
        assert abs(counts.sum().item() - share.sum().item()) < 1
        assert (labels[input_ids == 0] == -100).all()


def test_the_mean_rate_of_exact_counts_is_right():
    "510 rows of 7 hide 535.5 on average: neither each row nor the batch may round one way. Five standard errors of 40."
    input_ids = torch.full((510, 7), 9)
    totals = torch.tensor([(exactly(input_ids, input_ids < 5, seed)[1] != -100).sum() for seed in range(40)]).float()
    assert abs(totals.mean().item() - 0.15 * 510 * 7) < 5 * 0.5 / math.sqrt(40)
    assert totals.max() - totals.min() <= 1


def test_a_row_with_an_ordinary_token_hides_one_and_a_row_without_hides_none():
    input_ids = torch.tensor([[2, 7, 3, 0], [2, 3, 0, 0], [2, 8, 9, 3]]).repeat(20, 1)
    counts = (exactly(input_ids, input_ids < 5)[1] != -100).sum(1).reshape(20, 3)
    assert torch.equal(counts, torch.tensor([1, 0, 1]).expand(20, 3))


def test_no_place_of_a_row_is_favoured_by_an_exact_count():
    """Chi-square over 20 places, drawn without replacement, in units of its deviation, sqrt(2 · 19): below 4.

    The count of a place has the variance rows · q(1 − q); places of a row push each other away, hence 19 / 20."""
    input_ids = torch.full((6_000, 20), 9)
    times = (exactly(input_ids, input_ids < 5)[1] != -100).sum(0).double()
    assert times.sum() == 3 * 6_000
    chi_square = ((times - 900) ** 2).sum().item() / (6_000 * 0.15 * 0.85) * 19 / 20
    assert abs(chi_square - 19) < 4 * math.sqrt(2 * 19)


IS_CONTINUATION = torch.tensor([False] * 8 + [True] * 4)  # ids 8 to 11 continue a word


def whole_words(input_ids, seed=0, is_continuation=IS_CONTINUATION, vocab_size=12, **options):
    return mask_whole_words(input_ids, input_ids < 5, is_continuation, 4, vocab_size,
                            generator=torch.Generator().manual_seed(seed), **options)


def test_the_pieces_of_a_word_are_asked_together_or_not_at_all():
    "Words of 1, 3, 2 and 1 pieces: [CLS] a bcd ef [UNK] g [SEP] [PAD]."
    row = torch.tensor([2, 5, 6, 8, 9, 7, 10, 1, 5, 3, 0])
    words = [[1], [2, 3, 4], [5, 6], [8]]
    asked = whole_words(row.expand(4_000, -1), mlm_probability=0.3)[1] != -100
    for word in words:
        assert (asked[:, word] == asked[:, word[:1]]).all()
        assert abs(asked[:, word[0]].float().mean().item() - 0.3) < 4 * math.sqrt(0.21 / 4_000)
    assert not asked[:, [0, 7, 9, 10]].any()
    both = (asked[:, 1] & asked[:, 2]).float().mean().item()
    assert abs(both - 0.09) < 4 * math.sqrt(0.09 * 0.91 / 4_000)  # different words know nothing of each other


def test_a_piece_that_continues_a_word_cut_off_before_the_row_counts_as_a_word():
    asked = whole_words(torch.tensor([[2, 8, 9, 3]]).expand(2_000, -1), mlm_probability=0.5)[1] != -100
    assert torch.equal(asked[:, 1], asked[:, 2]) and not asked[:, [0, 3]].any()
    assert abs(asked[:, 1].float().mean().item() - 0.5) < 4 * math.sqrt(0.25 / 2_000)


def test_without_continuations_whole_words_are_tokens():
    nothing = torch.zeros(40_005, dtype=torch.bool)
    expected, got = mask(seed=5), whole_words(INPUT_IDS, 5, nothing, 40_005)
    assert torch.equal(expected[0], got[0]) and torch.equal(expected[1], got[1])


@pytest.mark.parametrize("masker", [exactly, lambda input_ids, special: whole_words(
    input_ids, is_continuation=torch.zeros(40_005).bool(), vocab_size=40_005)])
def test_every_masker_hides_as_the_paper_says_and_leaves_the_rest_alone(masker):
    masked, labels = masker(INPUT_IDS, NOTHING_SPECIAL)
    chosen = labels != -100
    assert torch.equal(labels[chosen], INPUT_IDS[chosen]) and torch.equal(masked[~chosen], INPUT_IDS[~chosen])
    for share, p in [((masked[chosen] == 4).float().mean(), 0.8),
                     ((masked == INPUT_IDS)[chosen].float().mean(), 0.1)]:
        assert abs(share.item() - p) < 4 * math.sqrt(p * (1 - p) / chosen.sum().item())


def test_corrupt_asks_for_what_it_is_told_to_and_nothing_else():
    input_ids = torch.arange(5, 17).reshape(3, 4)
    chosen = input_ids % 3 == 0
    masked, labels = corrupt(input_ids, chosen, 4, 17, torch.Generator().manual_seed(0))
    assert torch.equal(labels, torch.where(chosen, input_ids, -100))
    assert torch.equal(masked[~chosen], input_ids[~chosen])
    with pytest.raises(ValueError, match="is_chosen has dtype torch.int64: convert it with .bool"):
        corrupt(input_ids, chosen.long(), 4, 17)


@pytest.mark.parametrize(("masker", "changes", "message"), [
    (mask_exactly, {"mlm_probability": 1.5}, "mlm_probability 1.5 is not between 0 and 1"),
    (mask_exactly, {"input_ids": torch.full((3,), 7), "special_tokens_mask": torch.zeros(3).bool()},
     r"input_ids has the shape \(3,\): give \(batch, seq\)"),
    (mask_exactly, {"special_tokens_mask": torch.zeros(2, 3)}, "has dtype torch.float32: convert it with .bool"),
    (mask_exactly, {"input_ids": torch.full((2, 3), 12)}, "input_ids goes from 12 to 12"),
    (mask_whole_words, {"is_continuation": torch.zeros(11).bool()}, "give one bool for each of the 12 entries"),
    (mask_whole_words, {"is_continuation": torch.zeros(12)}, "is_continuation is torch.float32"),
    (mask_whole_words, {"input_ids": torch.full((2, 3), 12)}, "input_ids goes from 12 to 12"),
    (mask_whole_words, {"input_ids": torch.full((3,), 7)}, r"input_ids has the shape \(3,\)"),
])
def test_the_other_maskers_name_wrong_input_too(masker, changes, message):
    good = {"input_ids": torch.full((2, 3), 7), "special_tokens_mask": torch.zeros(2, 3).bool(), "mask_token_id": 4,
            "vocab_size": 12}
    if masker is mask_whole_words:
        good["is_continuation"] = torch.zeros(12).bool()
    masker(**good)
    with pytest.raises(ValueError, match=message):
        masker(**{**good, **changes})


def test_cross_entropy_of_two_hand_worked_guesses():
    logits = torch.tensor([[0., 0.], [0., math.log(3)]])  # a coin toss, then three to one for the truth
    loss = masked_cross_entropy(logits, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2, abs=1e-6)


def test_cross_entropy_survives_extreme_scores():
    logits = torch.tensor([[1e4, -1e4, 0.], [-1e4, 1e4, 0.]])
    assert masked_cross_entropy(logits, torch.tensor([0, 1])).item() == 0
    assert masked_cross_entropy(logits, torch.tensor([1, 0])).item() == pytest.approx(2e4)


def test_cross_entropy_and_gradient_equal_torch_and_ignore_what_is_not_asked():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 11, requires_grad=True), torch.tensor([3, 0, -100, 10, 7, -100])
    asked = targets != -100
    loss = masked_cross_entropy(logits, targets)
    torch.testing.assert_close(loss, F.cross_entropy(logits[asked], targets[asked]))
    loss.backward()
    expected = torch.zeros_like(logits)
    expected[asked] = (logits.detach()[asked].softmax(-1) - F.one_hot(targets[asked], 11)) / asked.sum()
    torch.testing.assert_close(logits.grad, expected)


def test_cross_entropy_is_computed_in_fp32_for_half_precision_scores():
    torch.manual_seed(0)
    logits, targets = torch.randn(4, 5_000).bfloat16(), torch.tensor([1, 2, 3, 4])
    loss = masked_cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), targets))


def test_accuracy_counts_asked_tokens_only():
    logits = torch.tensor([[2., 1.], [2., 1.], [0., 5.], [9., 0.]])
    assert masked_accuracy(logits, torch.tensor([0, 1, 1, -100])).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("score", [masked_cross_entropy, masked_accuracy])
def test_the_score_of_nothing_and_of_shapes_that_do_not_fit_is_refused(score):
    with pytest.raises(ValueError, match="no token is predicted"):
        score(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="no token is predicted"):
        score(torch.zeros(3, 5), torch.full((3,), -100))  # three tokens, and none of them counts
    with pytest.raises(ValueError, match=r"logits \(2, 3, 5\) and targets \(2, 3\) do not fit"):
        score(torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64))
    for logits in (torch.zeros(4, 5), torch.zeros(3, 5, 5), torch.zeros(3)):
        with pytest.raises(ValueError, match="do not fit"):
            score(logits, torch.zeros(3, dtype=torch.int64))


def test_unigram_counts_by_hand_with_one_added():
    log_probs = unigram_log_probs(torch.tensor([[2, 5, 5], [6, 3, 0]]), vocab_size=9)
    torch.testing.assert_close(log_probs[5:].exp(), torch.tensor([3., 2., 1., 1.]) / 7)
    assert (log_probs[:5] == -math.inf).all()


def test_unigram_is_the_best_guess_without_context_on_its_own_text():
    "No other fixed distribution has a smaller loss: Gibbs' inequality."
    tokens = torch.randint(5, 20, (4_000,), generator=torch.Generator().manual_seed(0)) // 2 + 3
    log_probs = unigram_log_probs(tokens, vocab_size=20)
    own = masked_cross_entropy(log_probs.expand(len(tokens), -1), tokens)
    even = torch.zeros(20).log_softmax(0)
    assert own < -even[tokens].mean() - 0.5
    assert own.item() == pytest.approx(-log_probs[tokens].mean().item(), abs=1e-5)


def test_unigram_refuses_ids_outside_the_vocabulary():
    with pytest.raises(ValueError, match="input_ids goes from 5 to 9, outside a vocabulary of 9"):
        unigram_log_probs(torch.tensor([5, 9]), vocab_size=9)


TOY = torch.tensor([0., 0., 0., 0., 0., 3., 2., 1., 1.]) / 7  # words 5 to 8 after the five special tokens


@pytest.mark.parametrize(("seen", "truth", "share"), [
    (5, 5, 15 / 19), (5, 6, 2 / 19), (5, 8, 1 / 19),  # (3/7 + 3/28) / (3/7 + 1/4), and p/4 over the same
    (8, 8, 5 / 11), (8, 5, 3 / 11),                   # (1/7 + 1/28) / (1/7 + 1/4)
    (4, 5, 3 / 7), (4, 8, 1 / 7),                     # [MASK] tells nothing
])
def test_repeating_loss_of_hand_worked_places(seen, truth, share):
    loss = repeating_loss(torch.tensor([seen]), torch.tensor([truth]), TOY.log(), mask_token_id=4)
    assert loss == pytest.approx(-math.log(share), abs=1e-6)


def test_no_table_that_sees_its_own_place_alone_beats_repeating():
    "Counted over a million words: the shares of each truth behind each sight, and their loss, which no table can beat."
    generator = torch.Generator().manual_seed(0)
    words = torch.multinomial(TOY, 1_000_000, replacement=True, generator=generator)[None]
    masked, labels = mask_tokens(words, words < 5, 4, 9, mlm_probability=0.9, generator=generator)
    seen, truth = masked[labels != -100], labels[labels != -100]
    counted = torch.bincount(9 * seen + truth, minlength=81).reshape(9, 9).double()
    counted /= counted.sum(1, keepdim=True).clamp(min=1)  # (seen, truth)
    best = -counted[seen, truth].log().mean().item()
    loss = repeating_loss(seen, truth, TOY.log(), mask_token_id=4)
    assert best <= loss + 1e-6 and loss == pytest.approx(best, abs=1e-4)
    assert loss < -TOY[truth].log().mean().item() - 0.05  # and unigram is far behind


def test_repeating_loss_refuses_what_does_not_fit():
    word, log_probs = torch.tensor([5]), TOY.log()
    for seen, truth, message in [(word, torch.tensor([5, 6]), r"seen \(1,\) and truth \(2,\) do not fit"),
                                 (word[:0], word[:0], "no token is predicted"),
                                 (word, torch.tensor([-100]), "truth goes from -100 to -100, outside a vocabulary of 9"),
                                 (torch.tensor([9]), word, "seen goes from 9 to 9")]:
        with pytest.raises(ValueError, match=message):
            repeating_loss(seen, truth, log_probs, mask_token_id=4)


def test_the_door_checks_let_good_input_pass_and_name_the_bad():
    check_ids(torch.tensor([0, 8]), 9)
    check_ids(torch.zeros(0, 3, dtype=torch.int64), 9)  # an empty batch has no wrong id
    with pytest.raises(ValueError, match="seen goes from 0 to 9, outside a vocabulary of 9"):
        check_ids(torch.tensor([0, 9]), 9, "seen")
    check_shapes(torch.zeros(3, 5), torch.tensor([-100, 4, 0]))
    with pytest.raises(ValueError, match="do not fit"):
        check_shapes(torch.zeros(3, 5), torch.tensor([1, 2]))


# linear_cross_entropy

def head_inputs(rows=13, hidden=5, vocab=29, dtype=torch.float64, seed=0):
    "Random hidden states, weight, bias and targets, one of which does not count."
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
              for shape in ((rows, hidden), (vocab, hidden), (vocab,))]
    targets = torch.randint(vocab, (rows,), generator=generator)
    targets[2] = -100
    return leaves, targets


@pytest.mark.parametrize("chunk_size", [1, 4, 13, 100, None])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_linear_cross_entropy_is_cross_entropy_with_all_gradients(chunk_size, reduction):
    "Whatever the chunk, the last one shorter than the rest or not: the loss and the three gradients of F.cross_entropy."
    leaves, targets = head_inputs()
    ours, num_correct = linear_cross_entropy(*leaves, targets, reduction, chunk_size)
    logits = F.linear(*leaves)
    theirs = F.cross_entropy(logits, targets, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(3 * ours, leaves), torch.autograd.grad(3 * theirs, leaves), rtol=1e-11, atol=1e-12)
    assert num_correct.item() == (logits.argmax(-1) == targets).sum().item()


def test_linear_cross_entropy_survives_huge_scores():
    "Scores of ±1e4 in float32 overflow a naive exp; the loss and gradients stay finite and right."
    leaves, targets = head_inputs(dtype=torch.float32)
    with torch.no_grad():
        leaves[2].copy_(torch.linspace(-1e4, 1e4, len(leaves[2])))
    ours, _ = linear_cross_entropy(*leaves, targets)
    theirs = F.cross_entropy(F.linear(*leaves), targets)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves))


def test_linear_cross_entropy_of_no_rows_adds_nothing():
    "A part of a batch in which nothing is hidden: the sum is 0 and so are its gradients; a mean has no meaning and says so."
    leaves, _ = head_inputs()
    empty, none = leaves[0][:0], torch.zeros(0, dtype=torch.int64)
    loss, num_correct = linear_cross_entropy(empty, *leaves[1:], none, "sum")
    loss.backward()
    assert loss.item() == 0 and num_correct.item() == 0
    assert not leaves[1].grad.any() and not leaves[2].grad.any()
    with pytest.raises(ValueError, match="mean of nothing"):
        linear_cross_entropy(empty, *leaves[1:], none)


def test_linear_cross_entropy_under_autocast_is_as_close_as_torchs():
    "bfloat16 products, float32 sums: no further from the float32 truth than autocast's own linear and cross-entropy."
    leaves, targets = head_inputs(rows=64, hidden=32, vocab=101, dtype=torch.float32)
    exact = torch.autograd.grad(F.cross_entropy(F.linear(*leaves), targets), leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = linear_cross_entropy(*leaves, targets, chunk_size=16)[0]
        theirs = F.cross_entropy(F.linear(*leaves), targets)
    assert ours.dtype == torch.float32
    for our_grad, their_grad, truth in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), exact, strict=True):
        assert (our_grad - truth).norm() <= 1.2 * (their_grad - truth).norm()


def test_linear_cross_entropy_of_a_bfloat16_model_sums_in_float32():
    "Even scores over 9000 words cost ln 9000, and 600 right guesses are 600; a sum in bfloat16 is off."
    weight, bias = torch.zeros(9_000, 4, dtype=torch.bfloat16), torch.zeros(9_000, dtype=torch.bfloat16)
    hidden_states = torch.ones(600, 4, dtype=torch.bfloat16, requires_grad=True)
    loss, num_correct = linear_cross_entropy(hidden_states, weight, bias, torch.zeros(600, dtype=torch.int64), chunk_size=7)
    assert loss.item() == pytest.approx(math.log(9_000), rel=1e-6) and num_correct.item() == 600
    assert torch.autograd.grad(loss, hidden_states)[0].dtype == torch.bfloat16


def test_linear_cross_entropy_may_be_changed_in_place_afterwards():
    "loss *= 2 doubles the gradients, as it does for F.cross_entropy."
    leaves, targets = head_inputs()
    doubled = linear_cross_entropy(*leaves, targets, "sum")[0]
    doubled *= 2
    plain = linear_cross_entropy(*leaves, targets, "sum")[0]
    torch.testing.assert_close(torch.autograd.grad(doubled, leaves), torch.autograd.grad(2 * plain, leaves))


def test_linear_cross_entropy_without_gradients_keeps_nothing():
    "Under no_grad the loss is the same and asks for no gradient."
    leaves, targets = head_inputs()
    with torch.no_grad():
        loss, _ = linear_cross_entropy(*leaves, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, linear_cross_entropy(*leaves, targets)[0].detach())


@pytest.mark.parametrize(("change", "sentence"), [
    (dict(weight=torch.zeros(29, 4)), r"weight \(29, 4\).*do not fit"),
    (dict(bias=torch.zeros(28)), r"bias \(28,\).*do not fit"),
    (dict(targets=torch.zeros(12, dtype=torch.int64)), r"targets \(12,\) and 13 rows do not fit"),
    (dict(reduction="none"), "reduction 'none' is unknown"),
    (dict(chunk_size=0), "chunk_size 0 is no number of rows"),
    (dict(chunk_size=-1), "chunk_size -1 is no number of rows"),
    (dict(targets=torch.zeros(13, dtype=torch.int32)), "targets has dtype torch.int32: convert it with .long"),
    (dict(targets=torch.arange(17, 30)), "targets goes from 17 to 29, outside a vocabulary of 29"),
    (dict(targets=torch.arange(-3, 10)), "targets goes from -3 to 9"),  # -3 is no word, and not the sign for "not asked"
])
def test_linear_cross_entropy_names_what_does_not_fit(change, sentence):
    "The value that does not fit is in the sentence."
    (hidden_states, weight, bias), targets = head_inputs()
    arguments = dict(hidden_states=hidden_states, weight=weight, bias=bias, targets=targets) | change
    with pytest.raises(ValueError, match=sentence):
        linear_cross_entropy(**arguments)
