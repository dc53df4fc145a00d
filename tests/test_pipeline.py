"`posttraining.pipeline` and `posttraining.report`: three stages and one report, which a kill does not change; and one sentence for each mistake."

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from microbert_course.cli.main import main
from microbert_course.errors import CourseError
from microbert_course.posttraining.arithmetic import write_arithmetic
from microbert_course.posttraining.pipeline import read_pipeline, run_pipeline
from microbert_course.posttraining.report import compare_reports, plot_comparison
from microbert_course.training.run_folder import RunFolder
from microbert_course.training.run_log import RunLog

SMALL = """
prompts = ["27+15=", "a|b"]
device = "cpu"
num_threads = 1
[pretrain]
data = "arithmetic"
blocks = "gpt"
tokenizer = "characters"
vocab_size = 0
max_texts = 200
max_seq_len = 32
hidden_size = 16
num_layers = 1
intermediate_size = 16
num_steps = 8
warmup_steps = 2
eval_every = 4
[sft]
data = "arithmetic"
prompt = "{prompt}"
max_seq_len = 32
max_new_tokens = 3
num_epochs = 1
learning_rate = 1e-2
[grpo]
data = "arithmetic"
max_new_tokens = 3
num_test = 20
batch_size = 64
num_steps = 6
warmup_steps = 0
eval_every = 2
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "The file of a small pipeline, and the folder of its uninterrupted run."
    place, patch = tmp_path_factory.mktemp("pipeline"), pytest.MonkeyPatch()
    patch.setenv("MICROBERT_CACHE", str(place / "cache"))
    (place / "small.toml").write_text(SMALL)
    run_pipeline(read_pipeline(place / "small.toml"), place / "whole", progress=False)
    yield place
    patch.undo()


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def test_three_stages_end_in_one_report(small):
    "Each begins where the one before it was best; transformers opens the last; the report has its tables, picture and samples."
    folder = small / "whole"
    begun = {name: json.loads((folder / name / "training.json").read_text()).get("model") for name in ("pretrain", "sft", "grpo")}
    assert begun == {"pretrain": None, "sft": str(folder / "pretrain" / "best"), "grpo": str(folder / "sft" / "best")}
    found, page = json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()
    assert [stage["updates"] for stage in found["stages"].values()] == [8, 5, 6] and all(stage["seconds"] > 0 for stage in found["stages"].values())
    assert list(found["solved"]) == ["pretrain", "sft", "grpo"] and all(share["problems"] == 20 for share in found["solved"].values())
    assert all(len(texts) == 2 for texts in found["samples"].values()) and "`a\\|b`" in page and "| learning from rewards | `problems.jsonl` | 6 |" in page
    assert (folder / "stages.png").read_bytes().startswith(b"\x89PNG") and (folder / "grpo" / "best" / "README.md").is_file()
    model, tokenizer = (kind.from_pretrained(folder / "grpo" / "best") for kind in (AutoModelForCausalLM, AutoTokenizer))
    assert model(torch.tensor([tokenizer("27+15=")["input_ids"]])).logits.isfinite().all()


def test_pretraining_alone_has_its_report_too(small, tmp_path):
    "No stage says how long an answer is, and the model reads 32 tokens."
    (tmp_path / "alone.toml").write_text(SMALL[: SMALL.index("[sft]")])
    assert "`27+15=`" in run_pipeline(read_pipeline(tmp_path / "alone.toml"), tmp_path / "run", progress=False).read_text()


@pytest.mark.parametrize("killed_at", [2, 8, 10, 15])  # updates; 8 are pretraining, 5 instruction tuning
def test_a_kill_changes_nothing(small, killed_at, tmp_path, monkeypatch):
    "Inside a stage or between two, a pipeline goes on where it was, and its last weights are those of the uninterrupted one, to the bit."
    left, add = [killed_at], RunLog.add

    def until(log, update):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        add(log, update)

    pipeline = read_pipeline(small / "small.toml")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLog, "add", until)
        run_pipeline(pipeline, tmp_path / "run", progress=False)
    with pytest.raises(CourseError, match="pass --resume latest to go on"):
        run_pipeline(pipeline, tmp_path / "run", progress=False)
    with pytest.raises(CourseError, match="hidden_size of pretrain is 32 and was 16"):
        run_pipeline(read_pipeline(small / "small.toml", ["pretrain.hidden_size=32"]), tmp_path / "run", resume="latest", progress=False)
    run_pipeline(pipeline, tmp_path / "run", resume="latest", progress=False)
    wanted, found = weights(small / "whole" / "grpo"), weights(tmp_path / "run" / "grpo")
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_from_an_older_state_what_comes_after_is_run_again(small, tmp_path, capsys):
    "A checkpoint of an early stage makes the later ones anew; a change of rewards alone leaves the earlier scores as they are, and the comparison says so."
    command = ["pipeline", "--config", str(small / "small.toml"), "--folder", str(tmp_path / "run"), "--set", "grpo.group_size=4"]
    assert main([*command, "--compare", str(small / "whole")]) == 0
    said = capsys.readouterr().out
    assert "grpo.group_size: 4, 8" in said and "settings, here and in" in said
    found = compare_reports(tmp_path / "run", small / "whole")
    assert found["settings"] == [("grpo.group_size", 4, 8)]
    assert all(here == there for what, here, there in found["results"] if what in ("solved after pretraining", "solved after instruction tuning"))
    assert [len(line.get_xdata()) for line in plot_comparison({"4": tmp_path / "run", "8": small / "whole"}).lines] == [4, 4]
    made = (tmp_path / "run" / "grpo" / "training.json").stat().st_mtime_ns
    assert main([*command, "--resume", str(tmp_path / "run" / "pretrain" / "checkpoints" / "step-00000004")]) == 0
    assert (tmp_path / "run" / "grpo" / "training.json").stat().st_mtime_ns > made
    capsys.readouterr()
    assert main([*command, "--resume", str(tmp_path)]) == 1 and "is no checkpoint of a stage" in capsys.readouterr().err


def test_unseen_sums_stay_unseen(tmp_path):
    "No sum to be scored on is shown or tried, and the texts have none of two digits."
    paths = write_arithmetic(tmp_path)
    rows = {name: [json.loads(line) for line in open(paths[name])] for name in ("shown", "problems", "unseen")}
    asked = {name: {row["prompt"] for row in rows[name]} for name in rows}
    assert len(asked["unseen"]) == 300 and not asked["unseen"] & (asked["shown"] | asked["problems"]) and asked["shown"] < asked["problems"]
    assert all(str(int(row["prompt"][:2]) + int(row["prompt"][3:5]))[::-1] == row["answer"] for row in rows["problems"] + rows["unseen"])
    assert all(len(fact.partition("=")[0]) == 3 for line in open(paths["texts"]) for fact in line.split())


@pytest.mark.parametrize(("text", "changes", "sentence"), [
    ("", [], "there is no stage: write a table"), ("[sftt]\n", [], "no stage 'sftt': the stages are pretrain, sft, grpo"), ("[sft", [], "is no TOML"),
    ("[grpo]\ngroup_sise = 4\n", [], "has no setting 'group_sise': did you mean group_size"), ("[grpo]\ngroup_size = 1\n", [], r"\[grpo\] group_size is 1"),
    ("[sft]\n[grpo]\nmodel = 'smollm2'\n", [], "leave model out"), ("prompts = 3\n[sft]\n", [], "prompts is 3"), ("[sft]\nprompt = 3\n", [], "prompt of .sft. is 3"),
    ("[sft]\n", ["grpo.seed=1"], "a stage 'grpo' that the configuration does not have"), ("[sft]\n", ["seed"], "'seed' is none: write"),
    ("[pretrain]\n[grpo]\n", [], "blocks 'bert', an encoder, which .grpo. cannot teach to write"),
    ("[pretrain]\npreset = 'lm-huge'\n", [], "there is no preset 'lm-huge'"), ("[grpo]\nlearning_rate = 'fast'\n", [], "learning_rate of .grpo. is 'fast'"),
])
def test_a_wrong_configuration_is_one_sentence(tmp_path, text, changes, sentence):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(CourseError, match=sentence):
        read_pipeline(tmp_path / "wrong.toml", changes)


@pytest.mark.parametrize("change", ["grpo.data=none.jsonl", "sft.data=none.jsonl=0.5,imdb=0.5", "sft.test=gsm8k@none.jsonl", "pretrain.data=none/texts.txt"])
def test_a_file_that_is_not_there_is_named_before_anything_runs(small, tmp_path, change):
    with pytest.raises(CourseError, match="none.*, which is not there"):
        run_pipeline(read_pipeline(small / "small.toml", [change]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pipeline_that_is_at_work_is_not_replaced(small, tmp_path):
    shutil.copytree(small / "whole", tmp_path / "run")
    at_work = RunFolder(tmp_path / "run" / "grpo")
    at_work.open(resume="latest")
    with pytest.raises(CourseError, match="is in use by another process"):
        run_pipeline(read_pipeline(small / "small.toml"), tmp_path / "run", overwrite=True, progress=False)
    assert (at_work.path / "checkpoints").is_dir() and (tmp_path / "run" / "pretrain" / "training.json").is_file()
    at_work.lock.release()


def test_an_address_is_refused_before_anything_runs(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match="s3://bucket/name is an address: give a folder"):
        run_pipeline(read_pipeline(small / "small.toml"), "s3://bucket/name", progress=False)
    assert not (tmp_path / "s3:").exists()


def test_a_folder_of_something_else_stays(small, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(CourseError, match="no pipeline wrote it"):
        run_pipeline(read_pipeline(small / "small.toml"), tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(CourseError, match="there is no configuration"):
        read_pipeline(tmp_path / "none.toml")


def test_a_change_may_be_a_word_a_number_or_for_all(small):
    found = read_pipeline(small / "small.toml", ["seed=3", "grpo.loss=dapo", "grpo.kl_coef=1", "pretrain.preset=lm-tiny"])
    assert {config.seed for config in found.stages.values()} == {3} and found.stages["grpo"].loss == "dapo"
    assert found.stages["grpo"].kl_coef == 1.0 and found.stages["pretrain"].num_kv_heads > 0 and found.stages["pretrain"].hidden_size == 16
