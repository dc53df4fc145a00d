"Words become pieces, pieces become ids: equal to the tokenizers library, repeatable, and fast."

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from microbert_course.data.sources import clean_text, load
from microbert_course.data.wordpiece import (
    SPECIAL_TOKENS,
    count_words,
    encode_documents,
    learn_wordpiece,
    train_wordpiece,
    train_words,
    wordpiece_encode,
)
from microbert_course.errors import CourseError


@pytest.fixture(scope="module")
def reviews():
    return load("imdb")["text"][:400]  # as they came, markup and all


@pytest.fixture(scope="module")
def texts(reviews):
    return [clean_text(text) for text in reviews]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_wordpiece(texts, 1_500)


def test_the_longest_piece_goes_first():
    vocab = {piece: id for id, piece in enumerate(["un", "u", "##n", "##a", "##aff", "##able", "able"])}
    assert wordpiece_encode("unaffable", vocab) == ["un", "##aff", "##able"]
    assert wordpiece_encode("able", vocab) == ["able"]
    assert wordpiece_encode("unx", vocab) == ["[UNK]"]
    assert wordpiece_encode("u" + "n" * 99, vocab) == ["un", *["##n"] * 98]
    assert wordpiece_encode("u" + "n" * 100, vocab) == ["[UNK]"]  # longer than a hundred letters


def test_words_are_counted_as_bert_cuts_them():
    assert count_words(["Zoë, zoe", "a\u0085b  电影"]) == Counter({"zoe": 2, ",": 1, "ab": 1, "电": 1, "影": 1})


def test_the_most_frequent_pair_is_joined_first():
    learned = list(learn_wordpiece({"hug": 5, "pun": 6, "hugs": 2}, 19))
    assert learned[:5] == list(SPECIAL_TOKENS)
    assert learned[15:] == ["hu", "hug", "pu", "pun"]


def test_learning_ends_when_nothing_is_left_to_join():
    assert list(learn_wordpiece({"ab": 1}, 100)) == [*SPECIAL_TOKENS, "a", "b", "##b", "ab"]


def library_vocab(texts, vocab_size, letters):
    "What the library learns if the order of the letters, which it leaves to a hash table, is ours."
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=[*SPECIAL_TOKENS, *letters], show_progress=False)
    library.train_from_iterator(texts, trainer)
    return library.get_vocab()


def letters_of(vocab):
    return [piece for piece in vocab if len(piece.removeprefix("##")) == 1]


def test_a_learned_vocabulary_is_the_one_of_the_library(texts):
    vocab = learn_wordpiece(count_words(texts), 1_500)
    assert vocab == library_vocab(texts, 1_500, letters_of(vocab))


def test_repeated_letters_are_joined_as_in_the_library():
    chance = random.Random(0)
    texts = [" ".join("".join(chance.choices("ab", k=chance.randint(1, 9))) for _ in range(40)) for _ in range(20)]
    vocab = learn_wordpiece(count_words(texts), 150)
    assert vocab == library_vocab(texts, 150, letters_of(vocab))


def naively_learned(word_counts, vocab_size):
    "The vocabulary, every pair counted anew after each join."
    spelled = {word: [word[0], *("##" + letter for letter in word[1:])] for word in word_counts}
    inside = {piece for pieces in spelled.values() for piece in pieces[1:]}
    vocab = [*SPECIAL_TOKENS, *sorted({letter for word in word_counts for letter in word}), *sorted(inside)]
    while len(vocab) < vocab_size:
        pairs = Counter()
        for word, pieces in spelled.items():
            for pair in pairwise(pieces):
                pairs[pair] += word_counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], vocab.index(pair[0]), vocab.index(pair[1])))
        joined = best[0] + best[1].removeprefix("##")
        vocab += [joined] if joined not in vocab else []
        for pieces in spelled.values():
            for i in range(len(pieces)):
                if tuple(pieces[i:i + 2]) == best:
                    pieces[i:i + 2] = [joined]
    return {piece: id for id, piece in enumerate(vocab)}


def test_a_pair_that_came_and_went_inside_one_word_is_not_joined():
    learned = learn_wordpiece({"aabaaaabaa": 1, "a": 4}, 60)
    assert list(learned)[9:] == ["##aa", "##baa", "aa", "##aabaa", "##baaaabaa", "aabaaaabaa"]


@pytest.mark.parametrize("letters", ["ab", "abcd"])
def test_small_texts_give_what_counting_anew_and_the_library_give(letters):
    chance = random.Random(0)
    for _ in range(150):
        words = ["".join(chance.choices(letters, k=chance.randint(1, 10))) for _ in range(chance.randint(1, 12))]
        word_counts = {word: chance.randint(1, 4) for word in words}
        vocab = learn_wordpiece(word_counts, 60)
        assert vocab == naively_learned(word_counts, 60), word_counts
        text = " ".join(word for word, count in word_counts.items() for _ in range(count))
        assert vocab == library_vocab([text], 60, letters_of(vocab)), word_counts


def test_our_spelling_has_the_ids_of_the_library(reviews, tokenizer):
    vocab = tokenizer.get_vocab()
    splitter, normalizer = pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer()
    for text in reviews[:100]:
        words = [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]
        ids = [vocab[piece] for word in words for piece in wordpiece_encode(word, vocab)]
        assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("train", [train_words, train_wordpiece])
def test_a_tokenizer_has_its_special_tokens_first_and_sets_no_limit(texts, train):
    tokenizer = train(texts[:50], 900)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == list(SPECIAL_TOKENS)
    assert len(tokenizer) == (905 if train is train_words else 900)
    assert tokenizer.model_max_length > 10**20
    ids = tokenizer("The [MASK] film 电")["input_ids"]
    assert (ids[0], ids[2], ids[-2:]) == (2, 4, [1, 3])
    assert tokenizer.get_vocab() == train(texts[:50], 900).get_vocab()


def test_words_are_the_most_frequent_ones_in_the_order_of_the_library(texts):
    library = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    library.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=1_005, special_tokens=list(SPECIAL_TOKENS),
                                                                 show_progress=False))
    assert train_words(texts, 1_000).get_vocab() == library.get_vocab()


def test_a_saved_tokenizer_opens_and_encodes_the_same(tokenizer, reviews, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened(reviews[:5])["input_ids"] == tokenizer(reviews[:5])["input_ids"]
    assert (opened.pad_token_id, opened.mask_token_id) == (0, 4)


ODD = ["", "   ", "one", "a  b" * 40, "tab\tand\nline\x85and\x1cmore\u200bsigns " * 9, "[MASK] [SEP]x[PAD]", "电影 é ﬁ İstanbul ΣΑΣ"]


@pytest.mark.parametrize("max_seq_len", [3, 16, 128])
@pytest.mark.parametrize("train", [train_words, train_wordpiece])
def test_documents_are_encoded_as_the_tokenizer_does(reviews, train, max_seq_len):
    tokenizer, texts = train(reviews[:100], 900), [*ODD, *reviews[:60]]
    expected = tokenizer(texts, truncation=True, max_length=max_seq_len, padding="max_length")["input_ids"]
    tokenizer("leaves its truncation set, and nobody may mind", truncation=True, max_length=3)
    rows = encode_documents(texts, tokenizer, max_seq_len)
    assert rows.dtype == np.uint16 and rows.shape == (len(texts), max_seq_len)
    assert (rows == np.array(expected)).all()


def test_a_large_vocabulary_takes_larger_ids():
    tokenizer = train_words([" ".join(f"w{i:05}" for i in range(66_000))], 66_000)
    rows = encode_documents(["w65999"], tokenizer, 3)
    assert rows.dtype == np.int32 and rows[0, 1] == 66_004


@pytest.mark.parametrize(("call", "words"), [
    (lambda: train_wordpiece(["abc"], 6), "vocab_size 6 is too small"),
    (lambda: train_words(["abc"], 0), "vocab_size 0 leaves no word"),
    (lambda: train_wordpiece([], 100), "texts is empty"),
    (lambda: train_words("a string", 100), "give a list of texts"),
    (lambda: encode_documents(["abc"], train_words(["abc"], 1), 2), "max_seq_len 2 leaves no room"),
])
def test_a_call_that_cannot_work_is_told_off_at_the_door(call, words):
    with pytest.raises(CourseError, match=words):
        call()


def test_a_tokenizer_that_joins_across_spaces_is_refused(tokenizer):
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="[PAD]")
    with pytest.raises(CourseError, match="across a space"):
        encode_documents(["abc"], other, 8)
