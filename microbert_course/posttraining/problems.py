"""Problems with answers that can be checked: sums made on the spot, or questions from a file; and the tiny decoder that is shown how sums are written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, product, zip_longest
from pathlib import Path

import torch
from accelerate import Accelerator
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from microbert_course.data.registry import read_rows
from microbert_course.errors import CourseError
from microbert_course.files import read_json
from microbert_course.models.gpt import GptConfig, GptForCausalLM, generate
from microbert_course.posttraining.code_rewards import read_cases
from microbert_course.posttraining.instruction_data import read_examples
from microbert_course.posttraining.rewards import label_reward, parse_number, scores_of
from microbert_course.training.engine import RunResult, run_task
from microbert_course.training.loop import Batch, batch_rows, evaluate, seed_for
from microbert_course.training.run_folder import RunFolder
from microbert_course.training.settings import TrainConfig
from microbert_course.training.task import Task

SIGNS = "0123456789+=."  # all that a sum needs
NUM_TEST_SUMS, NUM_SHOWN_SUMS = 500, 200
SUMS_SHAPE = GptConfig(vocab_size=len(SIGNS) + 1, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=4, intermediate_size=168, max_seq_len=16,
                       rope_theta=100.0, initializer_range=0.05, eos_token_id=len(SIGNS))
SHOWING = TrainConfig(batch_size=64, num_steps=100, learning_rate=2e-3, warmup_steps=20, floor=0.9, weight_decay=0.0, eval_every=100, device="cpu")


@dataclass(frozen=True)
class Problem:
    "What is asked, and what the right answer is."

    prompt: str
    answer: str


def all_sums(
    top: int = 50,  # both numbers are below it; at most 50, so that a sum has two digits
) -> list[Problem]:  # top² of them
    "Every sum of two numbers in two digits each; the answer's digits come in the order in which one finds them on paper, the units first: 27+15=24."
    return [Problem(f"{a:02}+{b:02}=", f"{a + b:02}"[::-1]) for a, b in product(range(top), repeat=2)]


def split_problems(
    problems: Sequence[Problem],
    num_test: int,
    seed: int,
) -> tuple[list[Problem], list[Problem]]:  # to learn from, never to learn from
    """The problems in two parts at random; copies of a prompt are on the same side.

    Raises: CourseError if nothing would be left to learn from."""
    kinds = list(dict.fromkeys(problem.prompt for problem in problems))
    order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(seed_for(seed, "split"))).tolist()
    if num_test >= len(kinds):
        raise CourseError(f"num_test is {num_test} and there are {len(kinds)} different problems: ask for fewer, so that some are left to learn from")
    held_out = {kinds[number] for number in order[:num_test]}
    place = {kinds[number]: rank for rank, number in enumerate(order)}
    mixed = sorted(problems, key=lambda problem: place[problem.prompt])
    return [one for one in mixed if one.prompt not in held_out], [one for one in mixed if one.prompt in held_out]


def some_problems(problems: Sequence[Problem], number: int, seed: int) -> list[Problem]:  # number 0 = all
    """So many problems, at random.

    Raises: CourseError if there are fewer."""
    if number > len(problems):
        raise CourseError(f"num_test is {number} and the test file has {len(problems)} problems: ask for fewer, or for 0, which is all")
    order = torch.randperm(len(problems), generator=torch.Generator().manual_seed(seed_for(seed, "test")))
    return [problems[place] for place in order[: number or None]]


def without(
    problems: Sequence[Problem],
    unseen: Sequence[Problem],
    where: str,  # the unseen ones are from
) -> list[Problem]:
    """The problems whose prompts are not among the unseen ones.

    Raises: CourseError if there are none."""
    prompts = {problem.prompt for problem in unseen}
    left = [problem for problem in problems if problem.prompt not in prompts]
    if not left:
        raise CourseError(f"every problem to learn from is in {where} too, which is to stay unseen: give another test file, or leave it out")
    return left


def read_problems(
    path: str | Path,  # rows with the columns question and final, or question and answer; without `prompt`, whatever `microbert sft --data` takes
    tokenizer: PreTrainedTokenizerBase,  # whose chat template puts the question
    prompt: str = "",  # how a question is put, {question} in its place; "" = as instruction tuning puts it
    reward: str = "number",  # what is to be compared: number, label or code
) -> list[Problem]:
    """The problems in a file.

    Raises: CourseError, in one sentence, for what cannot be read, a missing column, an empty question, or an answer that the reward cannot compare."""
    if not prompt and reward != "code":
        return _as_instructed(str(path), tokenizer, reward)
    problems = []
    for place, row in read_rows(path):
        if not isinstance(row, dict):
            raise CourseError(f"{path}, {place}: {str(row)[:40]!r} is no row with columns: a problem has question and final, or question and answer")
        if "question" not in row or ("final" not in row and "answer" not in row):
            raise CourseError(f"{path}, {place}: the columns are {', '.join(row)}: a problem has question and final, or question and answer")
        question, answer = (str(_first(row, *names)).strip() for names in (("question",), ("final", "answer")))
        if not question or not _can_be_compared(answer, reward, f"{path}, {place}"):
            wanted = {"number": "an answer with a number", "label": "an answer"}[reward if question else "label"]
            raise CourseError(f"{path}, {place}: the question is {question[:40]!r} and the answer {answer[:40]!r}: give a question, and {wanted}")
        problems.append(Problem(put_question(question, tokenizer, prompt), answer))
    return problems


def _as_instructed(path: str, tokenizer: PreTrainedTokenizerBase, reward: str) -> list[Problem]:
    "The problems put as `microbert sft` puts them, so that a model that was shown some is asked for more in the same words."
    problems = []
    for example in read_examples(path, for_test=True):
        answer = example["final"] or example["answer"]
        if not _can_be_compared(answer, reward, path):
            raise CourseError(f"{path}: the answer to {example['prompt'][:40]!r} is {answer[:40]!r}: give an answer with a number, or reward 'label'")
        problems.append(Problem(put_question(example["prompt"], tokenizer), answer))
    return problems


def _first(row: dict, *names: str) -> object:  # "" if there is none
    return next((row[name] for name in names if row.get(name) is not None), "")


def _can_be_compared(answer: str, reward: str, where: str) -> bool:
    if reward == "code":
        read_cases(answer, where)
    return bool(answer) if reward == "label" else reward == "code" or parse_number(answer) is not None


def put_question(
    question: str,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str = "",  # how it is put, {question} in its place; "" = by the tokenizer's chat template, if it has one
) -> str:
    "A question as a model is asked."
    if prompt:
        return prompt.replace("{question}", question)
    if tokenizer.chat_template:
        return tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    return question


def sums_tokenizer() -> PreTrainedTokenizerFast:
    "A token for every sign of a sum; the full stop ends it, id 0 fills rows up."
    signs = Tokenizer(models.WordLevel({"_": 0, **{sign: number for number, sign in enumerate(SIGNS, start=1)}}, unk_token="_"))
    signs.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    signs.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=signs, pad_token="_", unk_token="_", eos_token=".", model_max_length=SUMS_SHAPE.max_seq_len)


class Prompts:
    "The prompts of some problems as ids."

    def __init__(self, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase):
        self.problems, self.pad_token_id = list(problems), tokenizer.pad_token_id or 0
        last = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
        has_template = bool(tokenizer.chat_template)
        found = tokenizer([problem.prompt for problem in self.problems], add_special_tokens=not has_template, verbose=False)["input_ids"]
        self.ids = [ids[:-1] if not has_template and ids and ids[-1] in last else ids for ids in found]

    def __len__(self) -> int:
        return len(self.problems)

    def rows(
        self, numbers: Sequence[int],  # of the problems
    ) -> tuple[Tensor, Tensor]:  # ids (rows, longest), padded on the left; mask of the same shape, 1 = real token
        "These prompts side by side."
        chosen = [self.ids[number] for number in numbers]
        longest = max(map(len, chosen))
        input_ids = torch.tensor([[self.pad_token_id] * (longest - len(ids)) + ids for ids in chosen])
        return input_ids, torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in chosen])

    def check_room(self, max_new_tokens: int, max_seq_len: int) -> None:
        "Raises: CourseError with the first prompt that is empty, or does not fit into the model together with its completion."
        for problem, ids in zip(self.problems, self.ids, strict=True):
            if not ids:
                raise CourseError(f"the prompt {problem.prompt!r} has no token: give it at least one word")
            if len(ids) >= max_seq_len:
                raise CourseError(f"the prompt {problem.prompt[:40]!r}… has {len(ids)} tokens and the model reads at most {max_seq_len}, new ones among them: leave it out")
            if len(ids) + max_new_tokens > max_seq_len:
                raise CourseError(f"the prompt {problem.prompt[:40]!r}… has {len(ids)} tokens, and with max_new_tokens {max_new_tokens} that is more than the "
                                  f"{max_seq_len} that the model reads: leave it out, or ask for at most {max_seq_len - len(ids)} new tokens")


def completion_texts(
    tokenizer: PreTrainedTokenizerBase,
    completion_ids: Tensor,  # (rows, new)
    eos_token_id: int | None,  # what a completion ends with; whatever is behind it fills the row up
) -> list[str]:
    "What was written, up to the end and without it."
    written = [ids[: ids.index(eos_token_id)] if eos_token_id in ids else ids for ids in completion_ids.tolist()]
    return tokenizer.batch_decode(written, skip_special_tokens=True)


def answers_to(
    model: GptForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    max_new_tokens: int,
    batch_size: int = 500,
    **sampling,  # as in `models.gpt.generate`; without any, the most probable token each time
) -> list[str]:  # one a problem
    "What a model answers."
    prompts, device, texts = Prompts(problems, tokenizer), model.output_table()[0].device, []
    for start in range(0, len(prompts), batch_size):
        input_ids, mask = (rows.to(device) for rows in prompts.rows(range(start, min(start + batch_size, len(prompts)))))
        found = generate(model, input_ids, mask, max_new_tokens, **{"temperature": 0.0, **sampling})
        texts += completion_texts(tokenizer, found[:, input_ids.size(1):], model.config.eos_token_id)
    return texts


def was_shown(folder: Path, config: TrainConfig, num_test: int) -> bool:
    "Whether the folder has the decoder that `show_sums` would make."
    if not (folder / "training.json").is_file():
        return False
    then = read_json(folder / "training.json")
    return then["about"].get("unseen_sums") == num_test and all(then.get(name) == value for name, value in asdict(config).items())


def check_is_a_start(
    folder: Path,
    run: Path | None,  # the one that began with what lies there; None: it is replaced
) -> None:
    "Raises: CourseError if a finished run lies there that `show_sums` did not make, or made for a run that is still there: it is not replaced."
    if not (folder / "training.json").is_file():
        return
    then = read_json(folder / "training.json")
    if "shown_sums" not in then.get("about", {}):
        raise CourseError(f"{folder} holds another run, and what this one begins with would be kept there: choose another --folder")
    if run and (RunFolder(run).final.exists() or RunFolder(run).path.exists()):
        raise CourseError(f"the run in {run} began with {folder}, made with seed {then['seed']}, num_test {then['about']['unseen_sums']} and device "
                          f"{then['device']}: give the same, choose another --folder, or pass --overwrite to replace both")


class ShownSums:
    "A few sums with their answers, to learn from as text."

    def __init__(self, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        rows = torch.tensor(tokenizer([f"{problem.prompt}{problem.answer}." for problem in problems])["input_ids"])  # all of one length
        self.num_prompt = len(tokenizer(problems[0].prompt)["input_ids"])
        self.rows = rows

    def shown(self, rows: Tensor) -> Batch:
        "At every place of an answer the next sign is to be guessed; nothing within the question."
        labels = torch.full_like(rows, -100)
        labels[:, self.num_prompt - 1 : -1] = rows[:, self.num_prompt :]
        return Batch(rows, torch.ones_like(rows, dtype=torch.bool), labels)

    def batch(self, step: int, config: TrainConfig) -> Batch:
        "The rows of a step."
        return self.shown(self.rows[torch.from_numpy(batch_rows(step, config.batch_size, len(self.rows), config.seed))])


def varied_sums(problems: Sequence[Problem], number: int) -> list[Problem]:
    "So many sums, of every kind alike: which tens the two numbers have, and whether the units carry. A kind that was never shown is hard to come upon."
    kinds: dict[tuple, list[Problem]] = {}
    for problem in problems:
        (tens, units), (other_tens, other_units) = problem.prompt[:2], problem.prompt[3:5]
        kinds.setdefault((tens, other_tens, int(units) + int(other_units) > 9), []).append(problem)
    in_turns = (problem for one_of_each in zip_longest(*kinds.values()) for problem in one_of_each if problem is not None)
    return list(islice(in_turns, number))


def fresh_adder(seed: int) -> GptForCausalLM:
    "The tiny decoder, its weights a function of the seed."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights"))
        return GptForCausalLM(SUMS_SHAPE)


def show_sums(
    config: TrainConfig,  # such as SHOWING
    folder: str | Path,  # where the run ends up
    num_shown: int = NUM_SHOWN_SUMS,  # sums that it sees solved
    num_test: int = NUM_TEST_SUMS,  # sums that it is scored on and never sees
    overwrite: bool = False,
    progress: bool = True,
) -> RunResult:
    """Show a fresh tiny decoder how sums are written, on few solved ones: it learns the form, and to add badly.

    Raises: CourseError if the folder is taken."""
    tokenizer = sums_tokenizer()
    train, test = split_problems(all_sums(), num_test, config.seed)
    data, unseen = ShownSums(varied_sums(train, num_shown), tokenizer), ShownSums(test, tokenizer)

    def look(model: GptForCausalLM, accelerator: Accelerator) -> dict[str, float]:
        texts = answers_to(model, tokenizer, test, max_new_tokens=3)
        exact = scores_of("exact", label_reward, [], texts, [problem.answer for problem in test]).mean().item()
        return {**evaluate(model, [unseen.shown(unseen.rows)], accelerator), "exact": exact}

    def task(accelerator: Accelerator, config: TrainConfig) -> Task:
        return Task(make_model=partial(fresh_adder, config.seed), data=data, fingerprint=f"{num_shown} sums, {num_test} unseen", evaluate=look,
                    about={"shown_sums": num_shown, "unseen_sums": num_test})

    return run_task(config, folder, task, overwrite, progress)
