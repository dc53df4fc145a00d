"""What a run after pretraining depends on, as a value; without torch, so that the command line is quick to answer."""

import math
import os
import re
from dataclasses import dataclass, fields, replace
from typing import Literal, Self

from microbert_course.errors import CourseError
from microbert_course.training.settings import TrainConfig


@dataclass(frozen=True)
class EpochConfig(TrainConfig):
    """A run as long as a number of passes over its texts.

    Raises: CourseError, naming the field, if a value makes no sense."""

    num_epochs: int = 3  # passes over the training texts; it sets num_steps, warmup_steps and eval_every; 0 = those count as they are
    warmup_share: float = 0.1  # of all updates, until the rate peaks
    looks_per_epoch: int = 1  # at the validation texts; patience counts them

    def __post_init__(self):
        super().__post_init__()
        self.check_least(num_epochs=0, looks_per_epoch=1)
        self.check_shares("warmup_share")

    def for_rows(
        self,
        num_rows: int,  # training texts, or draws from several sets, that make an epoch
    ) -> Self:  # with the number of updates that the epochs come to
        """The configuration as it is run.

        Raises: CourseError if num_epochs and one of the settings that it decides are both given."""
        if not self.num_epochs:
            return self
        batch_size = self.rows_per_process * self.gradient_accumulation_steps * int(os.environ.get("WORLD_SIZE", 1)) or self.batch_size
        steps_per_epoch = math.ceil(num_rows / batch_size)
        num_steps = self.num_epochs * steps_per_epoch
        decided = {"num_steps": num_steps, "warmup_steps": round(self.warmup_share * num_steps),
                   "eval_every": math.ceil(steps_per_epoch / self.looks_per_epoch)}
        usual = {field.name: field.default for field in fields(self)}
        for name, value in decided.items():
            if getattr(self, name) not in (usual[name], value):
                raise CourseError(f"{name} {getattr(self, name)} and num_epochs {self.num_epochs} are both given: {self.num_epochs} epochs of "
                                  f"{num_rows:,} texts make it {value}; leave one out, or give num_epochs 0")
        return replace(self, **decided)


@dataclass(frozen=True)
class FinetuneConfig(EpochConfig):
    """Everything that fine-tuning an encoder for classification depends on.

    Raises: CourseError, naming the field, if a value makes no sense."""

    # data
    model: str = "minilm"  # a name that `microbert fetch` or `microbert models list` knows, a folder with a BERT in it, or a classifier to go on with
    data: str = "imdb"  # imdb, rotten_tomatoes, a labelled .csv, .json, .jsonl (.gz, .xz) or .parquet file, a folder of prepared rows, or a name on the hub
    test: str = ""  # a labelled file to score the finished model on; its texts are taken out of the training texts
    text_column: str = ""  # where a file has its texts; without it the first of text, sentence, review, … that there is
    label_column: str = ""  # where it has its labels; without it the first of label, sentiment, category, … that there is
    max_texts: int = 0  # training texts used; 0 = all of them
    max_seq_len: int = 128  # tokens read of each text
    keep: Literal["start", "end"] = "end"  # which end of a longer text is read
    # what is learned
    layers: Literal["classifier", "last_2", "last_3", "all"] = "all"  # what is trained; everything below it stays as it is
    lora_rank: int = 0  # above 0: the weights stay, and beside them changes of this rank are trained, with the head; 0 = the weights themselves
    lora_alpha: float = 16.0  # how much a change counts: times lora_alpha / lora_rank
    lora_targets: str = "query,value"  # ends of the names of the linears that get one, as transformers calls them, with commas; "" = all in the blocks
    class_weights: Literal["none", "balanced"] = "none"  # balanced lets every label count alike, however few its texts are
    dropout: float = 0.1  # share dropped in training; a single pass over the texts does as well without, and faster on a CPU
    # what is learned from
    batch_size: int = 16  # rows an update, over all processes and micro-batches
    # how it is learned
    learning_rate: float = 2e-4  # at its peak
    beta2: float = 0.999  # AdamW's memory of the square of the gradient
    num_threads: int = 0  # CPU threads; 0 = as torch decides

    def __post_init__(self):
        super().__post_init__()
        self.check_least(max_texts=0, max_seq_len=3, lora_rank=0)
        self.check_above_zero("lora_alpha")
        if self.lora_rank and self.layers != "all":
            raise CourseError(f"layers is {self.layers!r} and lora_rank {self.lora_rank}: both say what is trained, so leave one out")
        self.check_shares("dropout")


@dataclass(frozen=True)
class SftConfig(EpochConfig):
    """Everything that instruction tuning depends on.

    Raises: CourseError, naming the field, if a value makes no sense."""

    # data
    model: str = "smollm2"  # smollm2, a run of a decoder, a GGUF file, or a folder of transformers with a Llama, a T5 or a BART
    data: str = "rotten_tomatoes"  # what to learn: names that `microbert data list` has, files, or NAME@FILE, a file with rows of that set; several with commas, and with rates as in sst2=0.3,rows.jsonl=0.7
    test: str = ""  # one such name or file, to be scored on at the end; what is asked there is taken out of what is learned from
    prompt: str = ""  # how a task is put, {prompt} in its place; without it the model's own chat template, else the task and a new line
    exhausted: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"  # which of several sets ends an epoch: the first or the last that has been seen whole
    max_examples: int = 0  # of each set; 0 = all of them
    num_validation: int = 200  # examples held out, by the rates, but no more than a tenth of a set
    num_answered: int = 200  # of these, so many are answered at every look, where answers can be checked; 0 = none
    max_seq_len: int = 512  # tokens of a prompt with its answer; and of a row, where several share one
    too_long: Literal["refuse", "leave_out"] = "refuse"  # what happens to an example that is longer
    packing: bool = True  # several examples share a row: the same result with less padding; an encoder-decoder has a row for each all the same
    max_new_tokens: int = 16  # of an answer, where the model is scored
    # what is learned
    lora_rank: int = 0  # above 0: the weights stay, and beside them changes of this rank are trained; 0 = the weights themselves
    lora_alpha: float = 16.0  # how much a change counts: times lora_alpha / lora_rank
    lora_targets: str = "q_proj,v_proj"  # ends of the names of the linears that get one, as transformers calls them, with commas; "" = all in the blocks
    # what is learned from
    batch_size: int = 32  # examples an update, over all processes and micro-batches
    num_epochs: int = 2  # passes over what is learned from; it sets num_steps, warmup_steps and eval_every; 0 = those count as they are
    # how it is learned
    learning_rate: float = 1e-4  # at its peak
    beta2: float = 0.999  # AdamW's memory of the square of the gradient
    num_threads: int = 0  # CPU threads; 0 = as torch decides

    def __post_init__(self):
        super().__post_init__()
        self.check_least(max_examples=0, num_validation=1, num_answered=0, max_seq_len=2, max_new_tokens=1, lora_rank=0)
        self.check_above_zero("lora_alpha")
        if self.prompt and "{prompt}" not in self.prompt:
            raise CourseError(f"prompt is {self.prompt!r} and has no place for the task: write {{prompt}} where it is to stand")


@dataclass(frozen=True)
class GrpoConfig(TrainConfig):
    """Everything that learning from rewards by GRPO depends on.

    Raises: CourseError, naming the field, if a value makes no sense."""

    # data
    model: str = "sums"  # sums: a tiny decoder that is first shown how sums are written; else smollm2, a run of a decoder, or a folder with a Llama
    data: str = "arithmetic"  # arithmetic, or a .csv, .json, .jsonl (.gz, .xz) or .parquet file with the columns question and final (or answer)
    test: str = ""  # a file of the same kind to score the model on; what is in both is not trained on; without it a part of data is set aside
    prompt: str = ""  # how a question is put, {question} in its place; without it as `microbert sft` puts it
    num_test: int = 500  # problems that are never trained on, and scored at every look; 0 = all of test
    reward: Literal["auto", "number", "label", "code"] = "auto"  # what is compared: its last number, the whole text, or, of a program, what it gives back; auto: label for arithmetic, number for a file
    # what is learned
    group_size: int = 8  # completions of each prompt; batch_size is a multiple of it
    max_new_tokens: int = 3  # of a completion
    temperature: float = 1.0  # at which completions are drawn
    num_iterations: int = 1  # updates from one batch of completions; from the second on the clip has something to do
    scale: Literal["std", "none"] = "std"  # std divides a group's advantages by their spread, as GRPO does; none leaves them, as Dr. GRPO does
    loss: Literal["grpo", "dapo", "dr_grpo"] = "dr_grpo"  # how tokens count: by sequence, all alike in the batch, or all alike and longer is more
    clip_epsilon: float = 0.2  # how far a token's probability may move from where it was drawn before pushing it further earns nothing
    clip_epsilon_high: float = 0.0  # the same upwards, where it is to be wider (Clip-Higher); 0 = as clip_epsilon
    kl_coef: float = 0.0  # price of a nat between the model and the reference; 0 = there is no reference
    reference: str = ""  # the model that it is to stay near: a name or a folder; without it the model as it begins
    format_pattern: str = ""  # a regular expression for a whole completion, which earns format_weight; without it form earns nothing
    format_weight: float = 0.1  # of a right form; a right answer earns 1
    # what is learned from
    batch_size: int = 1_024  # completions an update
    num_steps: int = 450  # updates
    # how it is learned
    learning_rate: float = 2e-3  # at its peak
    warmup_steps: int = 10  # updates until the rate peaks
    floor: float = 0.3  # share of the peak rate left at the end
    weight_decay: float = 0.0
    eval_every: int = 30  # updates between two looks at the unseen problems

    def __post_init__(self):
        super().__post_init__()
        self.check_least(group_size=2, max_new_tokens=1, num_iterations=1, num_test=0 if self.test else 1)
        self.check_above_zero("temperature", "clip_epsilon")
        for name in ("kl_coef", "format_weight", "clip_epsilon_high"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise CourseError(f"{name} is {getattr(self, name)}: give 0 or more")
        if not 0 < self.clip_epsilon < 1:
            raise CourseError(f"clip_epsilon is {self.clip_epsilon}: give a number between 0 and 1")
        if self.batch_size % self.group_size:
            raise CourseError(f"batch_size {self.batch_size} does not split into groups of {self.group_size}: "
                              f"choose a multiple of {self.group_size}")
        self.check_data()
        if self.reference and not self.kl_coef:
            raise CourseError(f"reference is {self.reference!r} and kl_coef 0, so it would not be asked: give a price, such as 0.04, or leave it out")
        try:
            re.compile(self.format_pattern)
        except re.error as error:
            raise CourseError(f"format_pattern is {self.format_pattern!r} and no regular expression ({error}): correct it") from None
        if self.num_iterations > 1:
            self.check_whole_batches()

    @property
    def compared(self) -> str:  # number, label or code
        "What is compared with the answer."
        return self.reward if self.reward != "auto" else "label" if self.data == "arithmetic" else "number"

    def check_data(self) -> None:
        "Raises: CourseError if the problems do not fit the model, or a question would not be put."
        if self.data == "arithmetic":
            given = [f"{name} {getattr(self, name)!r}" for name in ("test", "prompt") if getattr(self, name)]
            given += [f"reward {self.reward!r}"] * (self.reward not in ("auto", "label"))
            if given:
                raise CourseError(f"{given[0]} is for questions from a file, and data is arithmetic: give --data, or leave it out")
        elif self.model == "sums":
            raise CourseError(f"model is sums, which reads nothing but sums, and data {self.data!r}: choose a model that reads text, such as smollm2")
        if self.prompt and "{question}" not in self.prompt:
            raise CourseError(f"prompt is {self.prompt!r} and has no place for the question: write {{question}} where it is to stand")

    def check_whole_batches(self) -> None:
        "Raises: CourseError if the run could be left between two updates of a batch: the model that drew it would be gone."
        for name in ("num_steps", "eval_every", "save_every"):
            if getattr(self, name) % self.num_iterations:
                raise CourseError(f"{name} {getattr(self, name)} ends between two of the {self.num_iterations} updates of a batch: "
                                  f"choose a multiple of num_iterations")
        for name in ("max_tokens", "max_seconds", "patience"):
            if getattr(self, name):
                raise CourseError(f"{name} may end the run between two of the {self.num_iterations} updates of a batch: leave it 0, or give num_iterations 1")
