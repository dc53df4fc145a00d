"Masking: the paper's rates, what is never touched, the loss and the accuracy of the guesses, the line to beat."

import math

import pytest
import torch
import torch.nn.functional as F

from microbert_course.training.masking import (
    mask_tokens,
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
