"`microbert generate` and `microbert chat`: text as it comes, the same for the same seed, and one sentence for each mistake."

import io
import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from microbert_course.cli.main import main
from microbert_course.data.weights import find_weights
from microbert_course.data.wordpiece import train_wordpiece
from microbert_course.errors import CourseError
from microbert_course.models.gpt import GptConfig, GptForCausalLM
from microbert_course.models.gpt_text import continue_text, prompt_ids, reply

TEMPLATE = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '\n' }}{% endfor %}{{ '<assistant>' }}"


def random_decoder(folder, tokenizer):
    "A folder with a decoder that has learned nothing."
    torch.manual_seed(0)
    config = GptConfig(len(tokenizer), hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=16, max_seq_len=64,
                       initializer_range=0.3)
    GptForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    "A decoder over word pieces, as a run of the course leaves it."
    texts = ["the film was good", "the cast was bad", "a slow film with a great cast"] * 5
    return random_decoder(tmp_path_factory.mktemp("decoders") / "words", train_wordpiece(texts, 60))


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    "A decoder over bytes with a chat template."
    backend = Tokenizer(models.BPE({letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=TEMPLATE)
    return random_decoder(tmp_path_factory.mktemp("decoders") / "letters", tokenizer)


def sentence_of(capsys, arguments):
    "The one line that a failing command prints on standard error; nothing on standard output."
    capsys.readouterr()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("microbert: ")
    return err


def test_generate_prints_the_text_and_what_follows(words, capsys):
    printed = []
    for seed in ("0", "0", "1"):
        assert main(["generate", "the film", "--model", str(words), "--max-new-tokens", "20", "--seed", seed]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != printed[2]
    assert printed[0].startswith("the film") and printed[0].endswith("\n") and len(printed[0].split()) > 5


def test_greedy_text_does_not_depend_on_the_seed(words, capsys):
    printed = set()
    for seed in ("0", "1"):
        main(["generate", "the film", "--model", str(words), "--temperature", "0", "--seed", seed])
        printed.add(capsys.readouterr().out)
    assert len(printed) == 1


def test_a_prompt_begins_as_a_text_does_and_has_no_end(words):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(words)
    ids = tokenizer("the film")["input_ids"]
    assert ids[-1] == tokenizer.sep_token_id and prompt_ids(tokenizer, "the film") == ids[:-1]
    assert prompt_ids(tokenizer, "") == [tokenizer.cls_token_id]  # any text at all


def test_half_a_letter_waits_for_its_other_half(letters, monkeypatch):
    from microbert_course.models import gpt_text

    model, tokenizer = GptForCausalLM.from_pretrained(letters), PreTrainedTokenizerFast.from_pretrained(letters)
    ids = tokenizer("né €")["input_ids"]
    monkeypatch.setattr(gpt_text, "stream", lambda *rest, **more: (torch.tensor([token]) for token in ids))
    assert list(continue_text(model, tokenizer, "a")) == ["n", "é", " ", "€"]


def test_chat_answers_line_by_line_and_remembers(letters, capsys, monkeypatch):
    asked = []
    monkeypatch.setattr("microbert_course.models.gpt_text.reply", lambda model, tokenizer, messages, **rest: asked.append(list(messages)) or iter(["an", "swer"]))
    monkeypatch.setattr("sys.stdin", io.StringIO("Hello\n\n  How are you? \n/quit\nnever read\n"))
    assert main(["chat", "--model", str(letters)]) == 0
    assert capsys.readouterr().out == "answer\nanswer\n"
    assert [message["content"] for message in asked[1]] == ["Hello", "answer", "How are you?"]
    assert [message["role"] for message in asked[1]] == ["user", "assistant", "user"]


def test_a_reply_is_what_follows_the_template(letters):
    model, tokenizer = GptForCausalLM.from_pretrained(letters), PreTrainedTokenizerFast.from_pretrained(letters)
    found = "".join(reply(model, tokenizer, [{"role": "user", "content": "Hi"}], temperature=0, max_new_tokens=9))
    assert found == "".join(continue_text(model, tokenizer, "<user>Hi\n<assistant>", temperature=0, max_new_tokens=9))


def test_a_chat_that_ends_with_the_input_ends_well(letters, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi"))
    assert main(["chat", "--model", str(letters), "--max-new-tokens", "5"]) == 0


@pytest.mark.parametrize(("options", "says"), [
    (["--temperature", "-1"], "temperature -1.0 is no temperature"),
    (["--top-p", "0"], "top_p 0.0 is no share"),
    (["--top-k", "100000"], "top_k 100000 is no number of pieces"),
    (["--repetition-penalty", "0"], "repetition_penalty 0.0 is no factor"),
    (["--max-new-tokens", "0"], "max_new_tokens 0 is no number of new tokens"),
    (["--max-new-tokens", "62"], "a prompt of 3 tokens and 62 new ones are 65, and the model reads 64"),
    (["--model", "nowhere"], "nowhere is not a folder"),
    (["--model", "nowhere.gguf"], "nowhere.gguf is no file"),
])
def test_each_mistake_gets_one_sentence(words, options, says, capsys):
    assert says in sentence_of(capsys, ["generate", "the film", "--model", str(words), *options])


def test_chat_without_a_template_and_text_without_a_token(words, letters, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi"))
    assert "has no chat template" in sentence_of(capsys, ["chat", "--model", str(words)])
    assert "the text is empty" in sentence_of(capsys, ["generate", "", "--model", str(letters)])


def test_a_model_of_another_kind_is_refused(words, tmp_path, capsys):
    shutil.copytree(words, tmp_path / "bert")
    values = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(json.dumps({**values, "model_type": "bert"}))
    assert "model_type 'bert'" in sentence_of(capsys, ["generate", "the film", "--model", str(tmp_path / "bert")])


def test_a_tokenizer_of_another_model_is_refused(words, letters, tmp_path):
    from microbert_course.models.gpt_folders import load_decoder

    shutil.copytree(words, tmp_path / "mixed")
    shutil.copy(letters / "tokenizer.json", tmp_path / "mixed")
    with pytest.raises(CourseError, match="has 2.. entries and the model .*: use the one saved with the model"):
        load_decoder(tmp_path / "mixed")


def test_smollm2_answers(capsys, monkeypatch):
    pytest.importorskip("gguf", reason="the package gguf reads GGUF files: pip install gguf")
    if find_weights("smollm2") is None:
        pytest.skip("SmolLM2 is not on this machine: microbert fetch smollm2")
    monkeypatch.setattr("sys.stdin", io.StringIO("What is the capital of France?\n"))
    assert main(["chat", "--temperature", "0", "--repetition-penalty", "1", "--max-new-tokens", "12"]) == 0
    assert "Paris" in capsys.readouterr().out
