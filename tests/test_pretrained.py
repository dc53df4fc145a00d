"""The models that the package carries: whole, able to do what is said of them, and made by a command that makes them again."""

import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from microbert_course import pretrained
from microbert_course.cli.main import main, parse
from microbert_course.data.sources import clean_text, load
from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.models.bert import MicroBertForMaskedLM, fill_mask, load_tokenizer
from microbert_course.models.gpt_folders import load_decoder
from microbert_course.posttraining.common import base_folder
from microbert_course.posttraining.problems import all_sums, answers_to, split_problems
from microbert_course.posttraining.settings import GrpoConfig
from microbert_course.training.loop import evaluate, evaluation_batches
from microbert_course.training.presets import PretrainConfig

BLANKS = {
    "this movie is [MASK] fantastic": "absolutely",
    "i would not [MASK] this film to anyone": "recommend",
    "The special [MASK] are amazing.": "effects",
    "It was directed by Alfred [MASK].": "hitchcock",
    "I fell [MASK] halfway through, and woke up when the credits rolled.": "asleep",
    "The acting was terrible, the script was worse: one of the [MASK] films I have ever seen.": "worst",
    "I loved every minute: one of the [MASK] films I have ever seen.": "best",
}


@pytest.fixture
def copies(tmp_path, monkeypatch):
    "The carried models, in a folder that may be harmed."
    for name in pretrained.carried_models():
        shutil.copytree(pretrained.HERE / name, tmp_path / "pretrained" / name)
    monkeypatch.setattr(pretrained, "HERE", tmp_path / "pretrained")
    return tmp_path / "pretrained"


def test_every_carried_model_is_listed_and_whole(capsys):
    assert main(["models", "list"]) == 0 and main(["models", "verify"]) == 0
    said = capsys.readouterr().out
    assert all(said.count(f"{name} ") >= 2 for name in pretrained.carried_models()) and said.count("whole") == len(pretrained.carried_models())


def test_each_is_small_and_says_from_what_it_was_made():
    for name in pretrained.carried_models():
        folder, about = pretrained.pretrained_folder(name), pretrained.manifest_of(name)
        assert sum(file.stat().st_size for file in folder.iterdir()) < 12e6
        assert about["recipe"].startswith("microbert ") and about["seconds"] > 0 and about["seed"] == read_json(folder / "training.json")["seed"]
        assert {"config.json", "model.safetensors", "tokenizer.json", "training.json", "training.txt", "history.json", "loss.png"} <= about["files"].keys()


@pytest.mark.parametrize("name", pretrained.carried_models())
def test_whoever_opens_one_elsewhere_has_texts_cut_where_it_ends(name):
    folder = pretrained.pretrained_folder(name)
    assert AutoTokenizer.from_pretrained(folder).model_max_length == read_json(folder / "config.json")["max_position_embeddings"]


@pytest.fixture(scope="module")
def encoder():
    folder = pretrained.pretrained_folder("microbert-imdb")
    return MicroBertForMaskedLM.from_pretrained(folder), load_tokenizer(folder)


def test_the_encoder_fills_blanks_as_a_reader_would_and_transformers_says_the_same(encoder):
    theirs = pipeline("fill-mask", model=str(pretrained.pretrained_folder("microbert-imdb")), device="cpu")
    for text, word in BLANKS.items():
        token, probability = fill_mask(*encoder, text)[0]
        best = theirs(text)[0]
        assert token == best["token_str"] == word, text
        assert best["score"] == pytest.approx(probability, abs=0.01)  # the pipeline computes in the 16 bits of the file


def test_the_encoder_guesses_hidden_words_of_unread_reviews_as_its_manifest_says(encoder):
    "On the first 128 pieces of 128 of the reviews that its run held out; the manifest speaks of all of them, whole."
    model, tokenizer = encoder
    reviews = [clean_text(text) for text in load("imdb", "validation")["text"][:128]]
    rows = tokenizer(reviews, truncation=True, padding="max_length", max_length=128, return_tensors="np")["input_ids"]
    accuracy = evaluate(model, evaluation_batches(rows, tokenizer))["accuracy"]
    assert accuracy == pytest.approx(pretrained.manifest_of("microbert-imdb")["accuracy"], abs=0.03)  # two standard errors of 2,000 guesses


@pytest.mark.parametrize("name", ["microbert-arith-sft", "microbert-arith"])
def test_the_adder_reaches_what_its_manifest_says(name):
    model, tokenizer = load_decoder(pretrained.pretrained_folder(name))
    about = pretrained.manifest_of(name)
    unseen = split_problems(all_sums(), 500, about["seed"])[1]
    right = sum(text == problem.answer for text, problem in zip(answers_to(model, tokenizer, unseen, 3), unseen, strict=True))
    assert right / len(unseen) == pytest.approx(about["exact"], abs=0.004)  # two sums: another processor may round otherwise


def test_transformers_opens_it_and_adds():
    folder = pretrained.pretrained_folder("microbert-arith")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    written = model.generate(**tokenizer("27+15=", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(written[0], skip_special_tokens=True).replace(" ", "").startswith("27+15=24")  # the units first


def test_commands_take_a_carried_model_by_its_name(capsys):
    assert base_folder("microbert-imdb") == pretrained.pretrained_folder("microbert-imdb")
    assert main(["generate", "27+15=", "--model", "microbert-arith", "--temperature", "0", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.replace(" ", "").startswith("27+15=24")
    assert main(["fill-mask", "the [MASK]", "--model", "microbert-arith"]) == 1
    assert "has model_type 'llama'" in capsys.readouterr().err


def test_a_changed_byte_is_found(copies, capsys):
    path = copies / "microbert-arith" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert main(["models", "verify"]) == 1
    said = capsys.readouterr()
    assert "holds other bytes" in said.out and "install the package again" in said.err
    path.write_bytes(content[:-1])
    with pytest.raises(CourseError, match=r"microbert-arith .*damaged \(model.safetensors has"):
        pretrained.pretrained_folder("microbert-arith")


def test_fill_mask_names_a_damaged_carried_encoder_in_one_sentence(copies, capsys):
    path = copies / "microbert-imdb" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["fill-mask", "this movie is [MASK] fantastic"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"microbert: the model microbert-imdb in {copies} is damaged (model.safetensors has ")
    assert said.err.endswith("install the package again, or `microbert models reproduce microbert-imdb`\n") and said.err.count("\n") == 1


@pytest.mark.parametrize("in_16_bits", [False, True])
def test_a_recipe_makes_its_model_again_and_the_two_are_compared(copies, tmp_path, monkeypatch, capsys, in_16_bits):
    text = tmp_path / "texts.txt"
    text.write_text("\n".join(f"the {number} films of the week were good and long" for number in range(60)), encoding="utf-8")
    command = ("pretrain", "tour", "--data", str(text), "--num-steps", "4", "--warmup-steps", "1", "--eval-every", "2", "--vocab-size", "200", "--device", "cpu")
    monkeypatch.setattr(pretrained, "RECIPES", {"small": pretrained.Recipe("a test", command, {"small": ""}, "loss", in_16_bits)})
    monkeypatch.setattr(pretrained, "KEPT_UPDATES", 2)
    assert main(["models", "reproduce", "small", "--folder", str(tmp_path / "run"), "--carry"]) == 0
    log, whole = (read_json(folder / "history.json") for folder in (copies / "small", tmp_path / "run"))
    assert log["train"] == whole["train"][::2] != whole["train"] and log["validation"] == whole["validation"]
    assert main(["models", "reproduce", "small", "--folder", str(tmp_path / "run")]) == 1 and (tmp_path / "run" / "training.json").is_file()  # somebody's run stays
    assert main(["models", "reproduce", "small", "--folder", str(tmp_path / "again")]) == 0
    said = capsys.readouterr().out
    assert "in 4 updates\n" in said and "the same to the bit" in said and main(["models", "verify"]) == 0
    run, carried = (MicroBertForMaskedLM.from_pretrained(folder).state_dict() for folder in (tmp_path / "run", copies / "small"))
    assert all(carried[key].dtype == torch.float32 and torch.equal(carried[key], weight.half().float() if in_16_bits else weight) for key, weight in run.items())


@pytest.mark.parametrize("recipe", pretrained.RECIPES)
def test_every_recipe_is_a_command_that_the_program_takes(recipe):
    command = parse([*pretrained.RECIPES[recipe].command, "--folder", "runs/x"])
    assert command.folder == "runs/x"
    kind = next(kind for kind in type(command).__mro__ if kind in (PretrainConfig, GrpoConfig))
    assert command.settings(kind).seed >= 0  # checked on the way


def test_what_is_not_carried_is_listed_with_its_command_and_cannot_be(capsys):
    assert main(["models", "list"]) == 0
    assert "not carried: `microbert models reproduce microbert-imdb-large` makes it" in capsys.readouterr().out
    with pytest.raises(CourseError, match="microbert-imdb-large is not carried by the package: leave --carry out"):
        pretrained.carry("microbert-imdb-large", pretrained.HERE, 1.0)


def test_an_unknown_name_gets_one_sentence(capsys):
    assert main(["models", "reproduce", "bert"]) == 1
    assert capsys.readouterr().err == "microbert: there is no recipe for 'bert': choose one of microbert-imdb, microbert-imdb-large, microbert-arith\n"
    with pytest.raises(CourseError, match="carries no model 'bert'"):
        pretrained.pretrained_folder("bert")
