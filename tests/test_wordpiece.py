"Words become pieces, pieces become ids: equal to the tokenizers library, repeatable, and fast."

import pickle
import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from microbert_course.data.sources import clean_text, load
from microbert_course.data.wordpiece import (
    SPECIAL_TOKENS,
    WordCacheEncoder,
    bert_words,
    choose_vocab_size,
    count_words,
    encode_documents,
    learn_wordpiece,
    learned_joins,
    train_wordpiece,
    train_words,
    wordpiece_encode,
    wordpiece_letters,
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


def library_vocab(texts, vocab_size, letters=(), **settings):
    "What the library learns if the order of the letters, which it leaves to a hash table, is ours."
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer, library.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special_tokens = [*SPECIAL_TOKENS, *letters]
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=special_tokens, show_progress=False, **settings)
    library.train_from_iterator(texts, trainer)
    return library.get_vocab()


def letters_of(vocab):
    return [piece for piece in vocab if len(piece.removeprefix("##")) == 1]


def test_a_learned_vocabulary_is_the_one_of_the_library(texts):
    vocab = learn_wordpiece(count_words(texts), 1_500)
    assert vocab == library_vocab(texts, 1_500, letters_of(vocab))


def test_with_the_librarys_order_of_letters_its_own_vocabulary_comes_out(texts):
    library = library_vocab(texts, 1_500)
    letters = sorted(letters_of(library), key=library.get)
    word_counts = count_words(texts)
    assert sorted(letters) == sorted(wordpiece_letters(word_counts))
    learned = [*SPECIAL_TOKENS, *letters]
    for left, right, _ in learned_joins(word_counts, letters):
        joined = left + right.removeprefix("##")
        learned += [joined] if joined not in learned else []
        if len(learned) == 1_500:
            break
    assert learned == sorted(library, key=library.get)


def test_joins_come_in_the_order_of_their_counts_and_are_counted_right():
    joins = learned_joins({"hug": 5, "pun": 6, "hugs": 2}, ["h", "p", "u", "n", "g", "s", "##u", "##g", "##n", "##s"])
    assert list(joins) == [("h", "##u", 7), ("hu", "##g", 7), ("p", "##u", 6), ("pu", "##n", 6), ("hug", "##s", 2)]


@pytest.mark.parametrize("min_count", [40, 10**9])
def test_the_chosen_size_is_where_the_library_stops_for_the_same_least_count(texts, min_count):
    word_counts = count_words(texts)
    size = choose_vocab_size(word_counts, min_count)
    assert size == len(library_vocab(texts, 10**5, wordpiece_letters(word_counts), min_frequency=min_count))
    assert size == len(learn_wordpiece(word_counts, size))  # and there is that much to learn


def test_the_rule_counts_joins_seen_exactly_often_enough():
    word_counts = {"hug": 5, "pun": 6, "hugs": 2}  # 14 letters and special tokens, joins seen 7, 7, 6, 6 and 2 times
    assert [choose_vocab_size(word_counts, min_count) for min_count in (8, 7, 6, 3, 2, 1)] == [15, 17, 19, 19, 20, 20]


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


NASTY = [*"aBz9 .,'-_~$[]#   ", "\t", "\n", "\r", "\x00", "\x0b", "\x1c", "\x7f", "\x85", "\xa0", "\xad", "\u200b", "\u2028", "\u3000", "\ufffd",
         "é", "e\u0301", "\u0301", "İ", "ß", "ΣΑΣ", "ﬁ", "ǅ", "电", "影", "한", "は", "ब", "א", "🎬", "👩\u200d🎤", "…", "“", "´", "·", "\ue000", "\u0378",
         "[MASK]", "[mask]", "[SEP]", "[UNK]", "##", "##s", "film", "The", "x" * 100, "x" * 101, "<br />"]


def nasty_texts(seed, how_many=300):
    chance = random.Random(seed)
    strange = [chr(code) for code in range(0x10FFFF) if not 0xD800 <= code < 0xE000]
    return ["".join(chance.choice(NASTY) if chance.random() < 0.9 else chance.choice(strange) for _ in range(chance.randint(0, 40)))
            for _ in range(how_many)]


def library_words(text):
    normal = normalizers.BertNormalizer().normalize_str(text)
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal)]


@pytest.mark.parametrize("seed", [0, 1])
def test_words_are_cut_as_the_library_cuts_them(seed):
    ascii_only = [text.encode("ascii", "ignore").decode() for text in nasty_texts(seed)]
    for text in [*nasty_texts(seed), *ascii_only, *map(chr, range(0x3000)), *(f"a{chr(code)}B" for code in range(128))]:
        assert bert_words(text) == library_words(text), text


@pytest.mark.parametrize("train", [train_words, train_wordpiece])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_odd_strings_have_the_ids_of_the_library(reviews, train, seed):
    tokenizer, texts = train(reviews[:100], 900), nasty_texts(seed)
    encoder = WordCacheEncoder(tokenizer)
    for _ in ("cold", "warm"):
        for text, ids, expected in zip(texts, encoder.encode_whole(texts), tokenizer(texts)["input_ids"], strict=True):
            assert ids.tolist() == expected, text
    for max_seq_len in (3, 17):
        expected = tokenizer(texts, truncation=True, max_length=max_seq_len, padding="max_length")["input_ids"]
        assert (encoder.encode(texts, max_seq_len) == np.array(expected)).all()


def with_change(train, reviews, change):
    tokenizer = train(reviews[:100], 900)
    change(tokenizer)
    return tokenizer


@pytest.mark.parametrize("change", [
    lambda tokenizer: tokenizer.add_tokens(["film", "Oscar"]),
    lambda tokenizer: tokenizer.add_special_tokens({"additional_special_tokens": ["<br", "É"]}),
    lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", normalizers.BertNormalizer(lowercase=False)),
    lambda tokenizer: setattr(tokenizer.backend_tokenizer, "normalizer", normalizers.NFC()),
    lambda tokenizer: setattr(tokenizer.backend_tokenizer, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
], ids=["added words", "added special tokens", "cased", "another normalizer", "another splitter"])
def test_a_changed_tokenizer_is_followed(reviews, change):
    tokenizer, texts = with_change(train_wordpiece, reviews, change), [*nasty_texts(3, 200), *reviews[:20], "FILM films oscar Oscars e"]
    for ids, expected in zip(WordCacheEncoder(tokenizer).encode_whole(texts), tokenizer(texts)["input_ids"], strict=True):
        assert ids.tolist() == expected


def test_whole_documents_come_with_or_without_their_ends_and_may_be_written_to(tokenizer, reviews):
    with_ends, without = (WordCacheEncoder(tokenizer).encode_whole(reviews[:3], ends) for ends in (True, False))
    assert [len(ids) for ids in with_ends] == [len(ids) + 2 for ids in without]
    for ids, expected in zip(without, tokenizer(reviews[:3], add_special_tokens=False)["input_ids"], strict=True):
        assert ids.dtype == np.uint16 and ids.tolist() == expected
        ids[0] = 4


def test_a_small_memory_and_a_copy_in_another_process_give_the_same_ids(tokenizer, reviews):
    expected = encode_documents(reviews[:30], tokenizer, 64)
    forgetful = WordCacheEncoder(tokenizer, max_chunks=10)
    assert (forgetful.encode(reviews[:30], 64) == expected).all()
    assert len(forgetful.cache) <= 10
    assert (pickle.loads(pickle.dumps(forgetful)).encode(reviews[:30], 64) == expected).all()


def test_what_was_spelled_is_remembered_from_call_to_call_but_not_endless_chunks(tokenizer):
    encoder = WordCacheEncoder(tokenizer)
    encoder.encode_whole(["a film " + "电" * 101])
    assert set(encoder.cache) == {"a", "film"}


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
    (lambda: train_wordpiece(["one", None], 100), r"texts\[1\] is None"),
    (lambda: choose_vocab_size({"a": 1}, 0), "min_count 0"),
    (lambda: choose_vocab_size({}), "word_counts is empty"),
    (lambda: WordCacheEncoder(train_words(["abc"], 1), max_chunks=0), "max_chunks 0"),
    (lambda: WordCacheEncoder(train_words(["abc"], 1)).encode(["abc"], 2), "max_seq_len 2 leaves no room"),
    (lambda: encode_documents(["abc"], train_words(["abc"], 1), 2), "max_seq_len 2 leaves no room"),
])
def test_a_call_that_cannot_work_is_told_off_at_the_door(call, words):
    with pytest.raises(CourseError, match=words):
        call()


def test_a_tokenizer_that_joins_across_spaces_is_refused(tokenizer):
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="[PAD]")
    with pytest.raises(CourseError, match="across a space"):
        encode_documents(["abc"], other, 8)


def test_tokenizers_whose_ids_would_not_come_out_are_refused(reviews):
    def joining(tokenizer):
        tokenizer.add_tokens(["New York"])

    def endless(tokenizer):
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])

    for change, words in ((joining, "'New York' holds a space"), (endless, "of an empty text")):
        with pytest.raises(CourseError, match=words):
            WordCacheEncoder(with_change(train_words, reviews, change))
