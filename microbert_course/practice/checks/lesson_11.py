"""Checks of the exercises on memory."""


import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from microbert_course.models.attention import MultiHeadAttention
from microbert_course.models.transformer import PreNorm, TransformerBlock
from microbert_course.practice.checking import Case, Check, Wrong
from microbert_course.practice.checks import tensor
from microbert_course.practice.uses import lesson_11 as uses

# 11.1: what a block keeps

def block_cases(rng: np.random.Generator) -> list[Case]:
    "Sizes all different; a feed-forward narrower than the stream among them."
    cases = []
    for narrow in (False, True, False):
        num_heads = int(rng.integers(2, 5))
        hidden_size = num_heads * int(rng.integers(3, 8))
        width = int(rng.integers(3, hidden_size)) if narrow else int(rng.integers(2, 5)) * hidden_size + 1
        cases.append({"batch": int(rng.integers(2, 5)), "seq": int(rng.integers(6, 17)), "hidden_size": hidden_size, "num_heads": num_heads,
                      "intermediate_size": width})
    return cases


def block_variant(number: int = 4, tokens: bool = True, norm_inputs: int = 2, stats: int = 2, map_inputs: int = 2, values: int = 3, context: int = 1,
                  log_sums: bool = True, scores: bool = False, inner: int = 1, relu_mask: bool = False, output: bool = False):
    "Bytes of the block with one thing counted otherwise."

    def block_bytes(batch: int, seq: int, hidden_size: int, num_heads: int, intermediate_size: int) -> int:
        rows = batch * seq if tokens else seq
        numbers = rows * (hidden_size * (norm_inputs + map_inputs + values + context + output) + 2 * stats + inner * intermediate_size)
        numbers += rows * num_heads * log_sums + rows * num_heads * seq * scores
        return number * numbers + rows * intermediate_size * relu_mask

    return block_bytes


def measured_block(batch: int, seq: int, hidden_size: int, num_heads: int, intermediate_size: int) -> int:
    "Autograd's own count."
    feed_forward = nn.Sequential(nn.Linear(hidden_size, intermediate_size), nn.ReLU(), nn.Linear(intermediate_size, hidden_size))
    block = TransformerBlock(*(PreNorm(part, nn.LayerNorm(hidden_size)) for part in (MultiHeadAttention(hidden_size, num_heads), feed_forward)))
    storages, known = [], {parameter.data_ptr() for parameter in block.parameters()}
    with saved_tensors_hooks(lambda saved: storages.append(saved.untyped_storage()) or saved, lambda saved: saved):
        block(torch.zeros(batch, seq, hidden_size, requires_grad=True))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages if storage.data_ptr() not in known}.values())


def listed_block(batch: int, seq: int, hidden_size: int, num_heads: int, intermediate_size: int) -> int:
    "The shapes one by one."
    stream = (batch, seq, hidden_size)
    shapes = [stream, (batch, seq, 1), (batch, seq, 1), stream, (batch, seq, 3 * hidden_size), stream, (batch, num_heads, seq),
              stream, (batch, seq, 1), (batch, seq, 1), stream, (batch, seq, intermediate_size)]
    return sum(torch.empty(shape).nbytes for shape in shapes)


# 11.2: checkpointing

def checkpoint_cases(rng: np.random.Generator) -> list[Case]:
    "With dropout and without, in both dtypes, under autocast; frozen parameters; an input that asks for no gradient."
    cases = []
    for dropout, dtype, frozen, input_asks, in_bf16 in ((0.4, torch.float32, [], True, False), (0.0, torch.float64, [1, 2], True, False),
                                                        (0.3, torch.float32, [0], False, False), (0.0, torch.float32, [], True, True)):
        inputs, inner, outputs = int(rng.integers(2, 5)), int(rng.integers(9, 14)), int(rng.integers(5, 8))
        weights = [tensor(rng, *shape, dtype=dtype) for shape in ((inner, inputs), (inner,), (outputs, inner), (outputs,))]
        cases.append({"x": tensor(rng, int(rng.integers(14, 19)), inputs, dtype=dtype), "scale": tensor(rng, inputs, dtype=dtype), "weights": weights,
                      "dropout": dropout, "chance": int(rng.integers(1, 10**6)), "frozen": frozen, "input_asks": input_asks, "in_bf16": in_bf16})
    return cases


def checkpoint_variant(chance: str = "set back", autocast: bool = True, parameters: bool = True, passes: bool = True, keeps: str = "inputs",
                       inputs_ask: bool = True, asks: str = "autograd.grad"):
    "Checkpointing with one thing done otherwise."

    class Variant(torch.autograd.Function):
        @staticmethod
        def forward(ctx, function, num_inputs, *tensors):
            ctx.function, ctx.num_inputs, ctx.chance = function, num_inputs, torch.get_rng_state()
            ctx.autocast = torch.is_autocast_enabled("cpu") and autocast, torch.get_autocast_dtype("cpu")
            if keeps == "attributes":
                ctx.tensors = tensors
            else:
                ctx.save_for_backward(*tensors)
            if keeps != "graph":
                return function(*tensors[:num_inputs])
            with torch.enable_grad():
                ctx.inputs = [one.detach().requires_grad_(one.requires_grad) for one in tensors[:num_inputs]]
                ctx.output = function(*ctx.inputs)
            return ctx.output.detach()

        @staticmethod
        def backward(ctx, output_grad):
            tensors, now = ctx.tensors if keeps == "attributes" else ctx.saved_tensors, torch.get_rng_state()
            if keeps == "graph":
                inputs, output = ctx.inputs, ctx.output
            else:
                inputs = [one.detach().requires_grad_(one.requires_grad) for one in tensors[: ctx.num_inputs]]
                if chance != "as it is":
                    torch.set_rng_state(ctx.chance)
                with torch.enable_grad(), torch.autocast("cpu", enabled=ctx.autocast[0], dtype=ctx.autocast[1]):
                    output = ctx.function(*inputs)
                if chance == "set back":
                    torch.set_rng_state(now)
            sources = [*inputs, *tensors[ctx.num_inputs:]]
            if asks == "backward":
                output.backward(output_grad)
                return None, None, *(source.grad for source in sources)
            asking = [number for number, one in enumerate(sources) if one.requires_grad]
            found = torch.autograd.grad(output, [sources[number] for number in asking], output_grad if passes else torch.ones_like(output_grad))
            answers = [None] * len(sources)
            for number, gradient in zip(asking, found, strict=True):
                is_input = number < ctx.num_inputs
                if parameters and not is_input or inputs_ask and is_input:
                    answers[number] = gradient
            return None, None, *answers

    return Variant


class TorchCheckpoint:
    "Torch's own, which finds the parameters by itself."

    @staticmethod
    def apply(function, num_inputs, *tensors):
        return checkpoint(function, *tensors[:num_inputs], use_reentrant=False)


class PlainRun:
    "No checkpointing at all."

    @staticmethod
    def apply(function, num_inputs, *tensors):
        return function(*tensors[:num_inputs])


class OneByOne(checkpoint_variant()):
    "Asks for one gradient after the other, and lets torch put chance back."

    @staticmethod
    def backward(ctx, output_grad):
        kept = ctx.saved_tensors
        fresh = [one.detach().clone().requires_grad_(ctx.needs_input_grad[2 + number]) for number, one in enumerate(kept[: ctx.num_inputs])]
        with torch.random.fork_rng([]):
            torch.set_rng_state(ctx.chance)
            with torch.enable_grad(), torch.autocast("cpu", enabled=ctx.autocast[0], dtype=ctx.autocast[1]):
                output = ctx.function(*fresh)
        sources = [*fresh, *kept[ctx.num_inputs:]]
        return None, None, *(torch.autograd.grad(output, source, output_grad, retain_graph=True)[0] if source.requires_grad else None
                             for source in sources)


# 11.3: a training that grows

def run_cases(rng: np.random.Generator) -> list[Case]:
    "Parts of several numbers and sizes; the validation set is as large as three parts."
    cases = []
    for num_parts, num_updates, rows, dtype in ((3, 3, 6, torch.float32), (2, 4, 9, torch.float64), (4, 2, 5, torch.float32)):
        inputs, inner, outputs = int(rng.integers(2, 5)), int(rng.integers(12, 20)), int(rng.integers(1, 4))
        weights = [tensor(rng, *shape, dtype=dtype) / 3 for shape in ((inner, inputs), (inner,), (outputs, inner), (outputs,))]
        updates = [[(tensor(rng, rows, inputs, dtype=dtype), tensor(rng, rows, outputs, dtype=dtype)) for _ in range(num_parts)]
                   for _ in range(num_updates)]
        validation = tensor(rng, 3 * rows, inputs, dtype=dtype), tensor(rng, 3 * rows, outputs, dtype=dtype)
        cases.append({"weights": weights, "updates": updates, "validation": validation, "learning_rate": float(rng.uniform(0.02, 0.08))})
    return cases


def run_variant(back: str = "each part", retained: bool = False, kept: str = "numbers", watched: bool = False, divided: bool = True, evaluates: str = "after",
                told: str = "whole"):
    "The training with some things done otherwise."

    def run(model, updates, validation, learning_rate):
        optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
        training, validated = [], []

        def evaluate() -> None:
            with torch.enable_grad() if watched else torch.no_grad():
                loss = F.mse_loss(model(validation[0]), validation[1])
            validated.append(loss if kept == "tensors" else loss.item())

        for parts in updates:
            if evaluates == "before":
                evaluate()
            optimizer.zero_grad()
            total = 0.0
            for inputs, targets in parts:
                loss = F.mse_loss(model(inputs), targets) / (len(parts) if divided else 1)
                if back == "each part":
                    loss.backward(retain_graph=retained)
                total = total + (loss if back == "once" or kept == "tensors" else loss.item())
            if back == "once":
                total.backward(retain_graph=retained)
            optimizer.step()
            training.append(loss.item() if told == "last part" else total if kept == "tensors" else float(total))
            if evaluates == "after":
                evaluate()
        return {"training": [float(torch.as_tensor(loss).detach()) for loss in training],
                "validation": [float(torch.as_tensor(loss).detach()) for loss in validated]}

    return run


def run_by_hand(model, updates, validation, learning_rate) -> dict[str, list]:
    "Gradients asked for and applied by hand, the losses detached; the result is the reference's."
    parameters, told = list(model.parameters()), {"training": [], "validation": []}
    for parts in updates:
        sums, total = [torch.zeros_like(parameter) for parameter in parameters], torch.zeros((), dtype=torch.float64)
        for inputs, targets in parts:
            loss = (model(inputs) - targets).square().mean()
            for one, gradient in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                one += gradient / len(parts)
            total += loss.detach() / len(parts)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, sums, strict=True):
                parameter -= learning_rate * gradient
            told["validation"].append(F.mse_loss(model(validation[0]), validation[1]).item())
        told["training"].append(total.item())
    return told


def run_in_inference_mode(model, updates, validation, learning_rate) -> dict[str, list]:
    "Loss detached where it is made, turned into numbers at the end."
    optimizer, training, validated = torch.optim.SGD(model.parameters(), lr=learning_rate), [], []
    for parts in updates:
        losses = []
        for inputs, targets in parts:
            loss = F.mse_loss(model(inputs), targets)
            (loss / len(parts)).backward()
            losses.append(loss.detach())
        optimizer.step()
        optimizer.zero_grad()
        training.append(torch.stack(losses).mean())
        with torch.inference_mode():
            validated.append(F.mse_loss(model(validation[0]), validation[1]))
    return {"training": torch.stack(training).tolist(), "validation": [float(loss) for loss in validated]}




CHECKS = (
    Check(
        id="memory.block_bytes",
        name="block_bytes",
        cases=block_cases,
        reference=measured_block,
        right=(block_variant(), listed_block),
        wrong=(
            Wrong(block_variant(inner=2),
                  "You count ReLU's input as well, as GELU would need it. ReLU keeps its output, and that is the very tensor that the "
                  "map behind it keeps: one storage."),
            Wrong(block_variant(inner=2, map_inputs=1),
                  "This is the count of BERT's own block, post-norm with GELU. Go through this one in the order in which it runs."),
            Wrong(block_variant(scores=True),
                  "You count the scores, seq × seq for every head. Fused attention never writes them down; it keeps one number a query "
                  "and head."),
            Wrong(block_variant(log_sums=False),
                  "One thing is missing in attention: the fused kernel keeps the logarithm of the softmax's sum, a number for each "
                  "query and head."),
            Wrong(block_variant(number=1),
                  "You answer how many numbers are kept. Bytes are asked for, and a float32 has four."),
            Wrong(block_variant(stats=0),
                  "The two numbers that each norm keeps for a token are missing: its mean and one over its deviation."),
            Wrong(block_variant(map_inputs=0),
                  "The norms' outputs are missing. A norm keeps its input; its output is another tensor, and the linear map behind it "
                  "keeps that one."),
            Wrong(block_variant(norm_inputs=1),
                  "You count the input of one norm only. The stream is there twice: as the block's input, and as the sum after "
                  "attention."),
            Wrong(block_variant(output=True),
                  "You count the block's output. The last sum keeps nothing; whoever reads the output pays for it."),
            Wrong(block_variant(relu_mask=True, inner=1),
                  "You give ReLU a mask of one byte each. It needs none: where its output is above 0, the derivative is 1."),
            Wrong(block_variant(values=0),
                  "Query, key and value are missing: three times the hidden size for every token, which attention keeps."),
            Wrong(block_variant(tokens=False),
                  "You count one row of the batch. All its rows are kept at once."),
        ),
    ),
    Check(
        id="memory.checkpointed",
        name="Checkpointed",
        builds="training.memory.Checkpointed",
        cases=checkpoint_cases,
        use=uses.checkpointed,
        reference=TorchCheckpoint,
        right=(checkpoint_variant(), OneByOne),
        wrong=(
            Wrong(PlainRun,
                  "This is the plain run: all activations are kept, and nothing runs a second time."),
            Wrong(checkpoint_variant(keeps="graph"),
                  "You keep the graph of the first run and use it on the way back: right gradients, and every byte that was to be "
                  "saved is still there."),
            Wrong(checkpoint_variant(chance="as it is"),
                  "In the second run dropout draws another mask: the gradients belong to a function that nobody ran. Set chance back "
                  "to where the first run began."),
            Wrong(checkpoint_variant(chance="left there"),
                  "The gradients are right, but chance stays where you set it back to: the next layer's dropout repeats draws that "
                  "were used before. Leave it as you found it."),
            Wrong(checkpoint_variant(autocast=False),
                  "The second run is in float32, the first was under autocast: the gradients are not those of the run that was made."),
            Wrong(checkpoint_variant(parameters=False),
                  "The inputs get their gradients, the parameters get none: the network would never learn."),
            Wrong(checkpoint_variant(asks="backward"),
                  "You call backward on the second run: it adds to the parameters' .grad by itself, beside what autograd does with your answers. "
                  "Ask for the gradients with torch.autograd.grad, which adds them nowhere."),
            Wrong(checkpoint_variant(inputs_ask=False),
                  "The parameters get their gradients, the inputs get none: everything before this block would stop learning."),
            Wrong(checkpoint_variant(passes=False),
                  "You start the way back with ones. What arrives from behind, output_grad, has to go through."),
            Wrong(checkpoint_variant(keeps="attributes"),
                  "The tensors hang on ctx as attributes. Torch then neither notices if somebody changes one in place before the second "
                  "run, nor frees them with the graph: put them aside with save_for_backward."),
        ),
    ),
    Check(
        id="memory.run",
        name="mended_run",
        cases=run_cases,
        use=uses.training,
        reference=run_variant(),
        right=(run_by_hand, run_in_inference_mode),
        tolerance=1e-4,  # sums in another order
        wrong=(
            Wrong(run_variant(back="once", retained=True, kept="tensors", watched=True),
                  "This is still the training as you found it: all three faults are in."),
            Wrong(run_variant(back="once"),
                  "All parts of an update are still alive when you call backward, once, on their sum. Each part can go back as soon as "
                  "it is there: gradients add up by themselves."),
            Wrong(run_variant(retained=True, kept="tensors"),
                  "retain_graph=True is still there: backward then frees nothing, and the graphs live as long as the losses that you "
                  "keep."),
            Wrong(run_variant(retained=True),
                  "retain_graph=True is still there: backward then frees nothing, and the graph of one part is alive until that of the next is there."),
            Wrong(run_variant(watched=True, kept="tensors"),
                  "Each validation loss still holds its whole forward pass: there is no backward to free it, and your list keeps it "
                  "alive."),
            Wrong(run_variant(watched=True),
                  "The validation loss becomes a number, but while it is computed its graph is kept, for no way back: gradients are to "
                  "be off."),
            Wrong(run_variant(divided=False),
                  "Your parts are not divided by their number: the gradient is the sum over the parts, and the steps are that many "
                  "times too long."),
            Wrong(run_variant(told="last part"),
                  "The loss you tell is the last part's share. It is to be the mean over all parts of the update."),
            Wrong(run_variant(evaluates="before"),
                  "You validate before the update, so that each validation loss is one update late."),
        ),
    ),
)
