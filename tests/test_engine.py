"The engine runs any task: another objective, another metric, frozen weights, its own figures."

from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from small_run import small_data
from torch import Tensor, nn

from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.models.bert import MicroBert, MicroBertConfig
from microbert_course.training.engine import run_task
from microbert_course.training.loop import batch_rows, plot_history, seed_for
from microbert_course.training.run_log import looks_since_best
from microbert_course.training.settings import TrainConfig
from microbert_course.training.task import Task

CONFIG = TrainConfig(batch_size=8, num_steps=6, eval_every=2, learning_rate=1e-2, device="cpu")


class Judge(nn.Module):
    "Says whether a sentence has a given word in it: a frozen encoder and a head."

    def __init__(self):
        super().__init__()
        torch.manual_seed(seed_for("judge"))
        self.config = MicroBertConfig(60, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=32, max_seq_len=16)
        self.bert, self.head = MicroBert(self.config).requires_grad_(False), nn.Linear(16, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.bert(input_ids).mean(1))

    def save_pretrained(self, folder):
        torch.save(self.state_dict(), folder / "judge.pt")


class JudgeLoss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, labels):
        logits = self.model(input_ids)
        return F.cross_entropy(logits, labels, reduction="sum"), (logits.argmax(1) == labels).sum()


@dataclass
class Sentences:
    input_ids: Tensor
    labels: Tensor

    def slice(self, start, stop):
        return Sentences(self.input_ids[start:stop], self.labels[start:stop])

    num_tokens = property(lambda self: self.input_ids.numel())
    num_predicted = property(lambda self: len(self.labels))

    def tensors(self, device):
        return self.input_ids.to(device), self.labels.to(device)


class Judged:
    def __init__(self, scores=()):
        small = small_data()
        self.tokenizer, self.ids, self.scores = small.tokenizer, torch.from_numpy(small.train_ids).long(), iter(scores)
        self.labels = (self.ids == self.tokenizer.convert_tokens_to_ids("bad")).any(1).long()

    def batch(self, step, config):
        rows = torch.from_numpy(batch_rows(step, config.batch_size, len(self.ids), config.seed))
        return Sentences(self.ids[rows], self.labels[rows])

    def task(self, accelerator, config):
        def evaluate(model, accelerator):
            right = (model(self.ids[:50]).argmax(1) == self.labels[:50]).double().mean().item()
            return {"loss": 1.0, "accuracy": next(self.scores, right)}

        return Task(Judge, self, "the same", evaluate, JudgeLoss, metric="accuracy", figures=lambda step: {"twice": 2.0 * step},
                    plot=lambda history: plot_history(history, unit="sentence"))


def weights(folder):
    return torch.load(folder / "judge.pt", weights_only=True)


def test_another_task_is_learned_and_what_is_frozen_stays(tmp_path):
    "The head changes, the encoder does not; the log has the task's own figures, and the settings are there to read."
    run = run_task(replace(CONFIG, num_steps=40), tmp_path / "run", Judged().task, progress=False)
    assert run.history["train"][-1]["loss"] < 0.9 * run.history["train"][0]["loss"]
    assert run.history["train"][3]["twice"] == 6.0 and run.history["validation"][-1]["accuracy"] > 0.5
    fresh, trained = Judge().state_dict(), weights(run.folder)
    assert all(torch.equal(fresh[name], trained[name]) == name.startswith("bert.") for name in fresh)
    about = read_json(run.folder / "training.json")["about"]
    assert about["trainable_share"] == pytest.approx(34 / sum(p.numel() for p in Judge().parameters()))
    assert "learning_rate: 0.01\n" in (run.folder / "training.txt").read_text()


def test_a_checkpoint_leaves_out_what_is_frozen_and_goes_on_to_the_bit(tmp_path):
    "Interrupted after two updates and resumed, the run ends as the one that was not."
    run_task(CONFIG, tmp_path / "whole", Judged().task, progress=False)

    def interrupt(model, score):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_task(CONFIG, tmp_path / "run", Judged().task, progress=False, on_evaluation=interrupt)
    checkpoint = tmp_path / "run.partial" / "checkpoints" / "step-00000002"
    assert (checkpoint / "model.safetensors").stat().st_size < 500  # 34 numbers and a header
    run_task(CONFIG, tmp_path / "run", Judged().task, progress=False, resume="latest")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "run")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_best_state_is_that_of_the_highest_accuracy_and_patience_ends_a_run(tmp_path):
    "Of equals the first is the best; two looks without a better one are enough."
    run = run_task(replace(CONFIG, num_steps=20, patience=2), tmp_path / "run", Judged([0.5, 0.7, 0.7, 0.6, 0.9]).task, progress=False)
    assert [look["accuracy"] for look in run.history["validation"]] == [0.5, 0.7, 0.7, 0.6]
    assert [look["step"] for look in run.history["validation"]] == [1, 3, 5, 7]
    assert not torch.equal(weights(run.folder)["head.weight"], weights(run.folder / "best")["head.weight"])


@pytest.mark.parametrize(("scores", "since"), [([], 0), ([0.5], 0), ([0.5, 0.5], 1), ([0.5, 0.4, 0.6], 0), ([0.9, 0.4, 0.6], 2)])
def test_looks_are_counted_from_the_best(scores, since):
    assert looks_since_best({"validation": [{"accuracy": score} for score in scores]}, "accuracy") == since
    assert looks_since_best({"validation": [{"loss": -score} for score in scores]}, "loss") == since


def test_a_run_goes_on_with_the_same_task_alone(tmp_path):
    "Another fingerprint, or another setting, is refused."
    run_task(CONFIG, tmp_path / "run", Judged().task, progress=False)
    with pytest.raises(CourseError, match="batch_size is 4 and was 8"):
        run_task(replace(CONFIG, batch_size=4), tmp_path / "run", Judged().task, progress=False, resume="latest")
    with pytest.raises(CourseError, match="are not those of the checkpoint"):
        run_task(CONFIG, tmp_path / "run", lambda a, c: replace(Judged().task(a, c), fingerprint="another"), progress=False, resume="latest")


@pytest.mark.parametrize(("changes", "said"), [
    ({"batch_size": 0}, "batch_size is 0: give 1 or more"), ({"patience": -1}, "patience is -1: give 0 or more"),
    ({"num_steps": 2.5}, "num_steps is 2.5: give a whole number"), ({"learning_rate": float("nan")}, "learning_rate is nan: give a number above 0"),
    ({"beta1": 1.0}, "beta1 is 1.0: give a number from 0"), ({"schedule": "flat"}, "schedule is 'flat': choose one of 'linear', 'cosine'"),
    ({"warmup_steps": 7}, "warmup_steps 7 is longer than the run of 6 steps"), ({"gradient_accumulation_steps": 3}, "choose a multiple of 3")])
def test_settings_that_make_no_sense_are_named(changes, said):
    with pytest.raises(CourseError, match=said):
        replace(CONFIG, **changes)
