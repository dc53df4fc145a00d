"Experts: who goes where, who is dropped, what the routers answer for, copies of a dense model, and models read from a configuration."

import copy
import json
import pickle

import pytest
import torch
import transformers
from accelerate import Accelerator
from small_run import small_data
from torch import nn

from microbert_course.errors import CourseError
from microbert_course.models.bert import MicroBertConfig, MicroBertForMaskedLM
from microbert_course.models.expert_families import FAMILIES
from microbert_course.models.experts import (
    ExpertModel,
    ExpertsFeedForward,
    Router,
    Routing,
    active_parameters,
    add_router_losses,
    auxiliary_losses,
    balance_loss,
    expert_capacity,
    expert_layers,
    expert_model,
    find_seats,
    has_experts,
    read_configuration,
    route,
    upcycle,
    upcycle_model,
    z_loss,
)
from microbert_course.models.modern import (
    FEED_FORWARDS,
    GatedFeedForward,
    ModernConfig,
    ModernForMaskedLM,
    without_biases,
)
from microbert_course.models.transformer import FeedForward, PreNorm
from microbert_course.training.build import pad_inputs
from microbert_course.training.engine import run_task
from microbert_course.training.loop import MaskedLMLoss, Training, make_batch
from microbert_course.training.memory import checkpoint_blocks
from microbert_course.training.settings import TrainConfig
from microbert_course.training.task import Task


def make_layer(num_experts=4, top_k=2, normalize=True, capacity_factor=None, shared=None, seed=0):
    torch.manual_seed(seed)
    router = Router(6, num_experts, top_k, normalize)
    nn.init.normal_(router.weight)
    return ExpertsFeedForward(router, [GatedFeedForward(6, 10, "swiglu") for _ in range(num_experts)], shared, capacity_factor)


def make_model(seed=0, **settings):
    torch.manual_seed(seed)
    config = ModernConfig(vocab_size=60, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=20, max_seq_len=16, initializer_range=0.2)
    model = upcycle_model(ModernForMaskedLM(config), **{"num_experts": 4, **settings})
    for layer in expert_layers(model):
        nn.init.normal_(layer.router.weight, std=0.5)
    return model


def one_by_one(layer, tokens, seats):
    "The layer as a loop over tokens and their experts, those without a seat left out."
    probabilities = (tokens @ layer.router.weight.T).softmax(-1)
    mixed = []
    for token, row, has_seat in zip(tokens, probabilities, seats, strict=True):
        weights, experts = row.sort(descending=True)
        weights, experts = weights[: layer.router.top_k], experts[: layer.router.top_k]
        if layer.router.normalize:
            weights = weights / weights.sum()
        found = torch.zeros_like(token) if layer.shared is None else layer.shared(token)
        for weight, expert, sits in zip(weights, experts.tolist(), has_seat.tolist(), strict=True):
            if sits:
                found = found + weight * layer.experts[str(expert)](token[None])[0]
        mixed.append(found)
    return torch.stack(mixed)


# --- who goes where


def test_the_gate_takes_the_largest_and_normalises_them_or_not():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125], [0.1, 0.1, 0.2, 0.6]]).log()
    weights, experts = route(logits, 2, normalize=False)
    assert experts.tolist() == [[0, 1], [3, 2]]
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.25], [0.6, 0.2]]))
    torch.testing.assert_close(route(logits, 2)[0], torch.tensor([[2 / 3, 1 / 3], [0.75, 0.25]]))


@pytest.mark.parametrize(("num_experts", "top_k", "sentence"), [
    (4, 5, "top_k 5 is not a number of experts out of 4: choose 1 to 4"),
    (4, 0, "top_k 0 is not a number of experts out of 4: choose 1 to 4"),
    (0, 1, "num_experts 0 leaves nobody to route to: choose 1 or more"),
])
def test_a_router_refuses_what_cannot_be_chosen(num_experts, top_k, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Router(6, num_experts, top_k)


def test_a_router_scores_in_float32_under_autocast():
    "Selective precision: rounding a score to 8 bits changes who is asked (Fedus et al. 2021, §2.4)."
    router, tokens = make_layer().router, torch.randn(50, 6)
    with torch.autocast("cpu", torch.bfloat16):
        logits, weights, _ = router(tokens)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(logits, tokens @ router.weight.T, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("tokens", "experts", "top_k", "factor", "seats"), [(8, 4, 1, 1.0, 2), (8, 4, 2, 1.0, 4), (9, 4, 1, 1.0, 3), (8, 4, 1, 1.25, 3), (3, 8, 1, 0.1, 1)])
def test_seats_are_an_equal_share_times_the_factor_rounded_up(tokens, experts, top_k, factor, seats):
    assert expert_capacity(tokens, experts, top_k, factor) == seats


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_capacity_factor_that_is_not_positive_is_refused(factor):
    with pytest.raises(ValueError, match=r"^capacity_factor .* gives nobody a seat: choose a positive number, such as 1.25, or None for no limit$"):
        make_layer(capacity_factor=factor)


def test_first_choices_sit_down_before_second_ones_and_early_tokens_before_late_ones():
    asked = torch.tensor([[0, 1], [1, 0], [1, 2], [1, 0], [0, 2]])
    seats = find_seats(asked, num_experts=3, capacity=2)
    # expert 0: first choice of tokens 0, 4, so the second choices of 1 and 3 find it full; expert 1: tokens 1, 2, so 3 is late, and 0's second choice too
    assert seats.int().tolist() == [[1, 0], [1, 0], [1, 1], [0, 0], [1, 1]]


# --- the feed-forward


@pytest.mark.parametrize("settings", [{}, {"top_k": 1, "normalize": False}, {"top_k": 3}, {"capacity_factor": 0.7}, {"shared": True, "capacity_factor": 0.3}])
def test_sorted_stretches_equal_a_loop_over_tokens(settings):
    "Outputs, and gradients of everything."
    shared = GatedFeedForward(6, 5) if settings.get("shared") else None
    layer, tokens = make_layer(**{**settings, "shared": shared}), torch.randn(23, 6, requires_grad=True)
    ours = layer(tokens)
    assert ("capacity_factor" in settings) == (not layer.routing.has_seat.all())
    theirs, leaves, upstream = one_by_one(layer, tokens, layer.routing.has_seat), [tokens, *layer.parameters()], torch.randn(23, 6)
    torch.testing.assert_close(ours, theirs)
    for our, their in zip(torch.autograd.grad(ours, leaves, upstream), torch.autograd.grad(theirs, leaves, upstream, materialize_grads=True, allow_unused=True), strict=True):
        torch.testing.assert_close(our, their)


def test_rows_and_single_vectors_come_back_in_their_shape():
    layer, hidden_states = make_layer(), torch.randn(3, 5, 6)
    torch.testing.assert_close(layer(hidden_states), layer(hidden_states.flatten(0, 1)).view(3, 5, 6))
    assert layer.routing.experts.shape == (15, 2)


def test_a_dropped_token_passes_by_unchanged_and_is_counted():
    layer = make_layer(num_experts=2, top_k=1, normalize=False, capacity_factor=0.5)
    branch, hidden_states = PreNorm(layer, nn.Identity()), torch.randn(1, 8, 6)
    answered = branch(hidden_states)
    is_dropped = ~layer.routing.has_seat[:, 0]
    assert layer.routing.num_dropped == int(is_dropped.sum()) >= 4  # at most 2 seats at each of 2 experts, for 8 tokens
    assert torch.equal(answered[0, is_dropped], hidden_states[0, is_dropped])
    assert (answered[0, ~is_dropped] != hidden_states[0, ~is_dropped]).all()


def test_requests_are_counted_with_or_without_a_seat():
    routing = Routing(torch.zeros(3, 4), torch.ones(3, 2), torch.tensor([[0, 3], [0, 1], [3, 0]]), torch.tensor([[True, False], [False, False], [True, True]]))
    assert routing.tokens_per_expert.tolist() == [3, 1, 0, 2] and routing.num_dropped == 1


def test_under_autocast_a_layer_answers_and_learns_in_float32():
    layer, tokens = make_layer(), torch.randn(9, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        answer = layer(tokens)
    answer.sum().backward()
    assert answer.dtype == tokens.grad.dtype == layer.router.weight.grad.dtype == torch.float32
    torch.testing.assert_close(answer, layer(tokens), rtol=0.05, atol=0.05)


def test_a_token_with_one_seat_of_two_is_not_dropped():
    layer = make_layer(num_experts=3, top_k=2, capacity_factor=0.5)
    layer(torch.randn(12, 6))
    seats = layer.routing.has_seat.sum(1)
    assert (seats == 1).any() and layer.routing.num_dropped == int((seats == 0).sum())


def test_in_use_nobody_is_dropped_and_the_batch_changes_no_answer():
    layer, tokens = make_layer(capacity_factor=0.2).eval(), torch.randn(20, 6)
    together = layer(tokens)
    assert layer.routing.num_dropped == 0
    torch.testing.assert_close(together, torch.cat([layer(token[None]) for token in tokens]))


def test_experts_that_nobody_asks_get_gradients_of_zero():
    "None would stop data parallel training, which waits for every parameter."
    layer = make_layer(num_experts=8, top_k=1, normalize=False)
    layer(torch.randn(1, 6)).sum().backward()
    asked = layer.routing.experts.item()
    for number, expert in layer.experts.items():
        assert all(p.grad is not None and bool(p.grad.any()) == (int(number) == asked) for p in expert.parameters())


def test_another_number_of_experts_than_the_router_knows_is_refused():
    with pytest.raises(ValueError, match="^3 experts are given and the router knows 4: give as many$"):
        ExpertsFeedForward(Router(6, 4), [FeedForward(6, 10) for _ in range(3)])


def test_a_layer_that_has_read_a_batch_can_be_copied_and_pickled():
    layer, tokens = make_layer(), torch.randn(5, 6)
    answer = layer(tokens)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.routing is None and torch.equal(twin(tokens), answer)
    assert layer.routing is not None


# --- what the routers answer for


def test_the_balance_loss_is_1_for_equal_shares_and_the_number_of_experts_for_one():
    logits = 20.0 * torch.eye(4).repeat(3, 1)  # each expert asked three times, surely
    assert balance_loss(logits, route(logits, 1)[1]).item() == pytest.approx(1.0, abs=1e-5)
    assert balance_loss(logits, route(logits, 2)[1]).item() == pytest.approx(1.0, abs=0.4)
    logits = torch.tensor([20.0, 0, 0, 0]).repeat(5, 1)
    assert balance_loss(logits, route(logits, 1)[1]).item() == pytest.approx(4.0, abs=1e-5)


def test_the_balance_loss_pushes_tokens_away_from_who_is_asked_most():
    logits = torch.tensor([[2.0, 0.0, 0.0], [1.5, 0.0, 0.5], [0.0, 1.0, 0.0]], requires_grad=True)
    balance_loss(logits, route(logits, 1)[1]).backward()
    assert (logits.grad[:, 0] > 0).all()  # a step down the gradient lowers expert 0's scores
    assert (logits.grad[:, 2] < 0).all()  # and raises those of the one that nobody asks


def test_padding_counts_in_neither_loss():
    logits = torch.randn(9, 4)
    is_real = torch.arange(9) < 6
    experts = route(logits, 2)[1]
    torch.testing.assert_close(balance_loss(logits, experts, is_real), balance_loss(logits[:6], experts[:6]))
    torch.testing.assert_close(z_loss(logits, is_real), z_loss(logits[:6]))


def test_the_z_loss_squares_the_log_of_the_sum():
    assert z_loss(torch.zeros(5, 4)).item() == pytest.approx(1.3862944**2)
    assert z_loss(torch.tensor([[3.0]])).item() == pytest.approx(9.0)


def test_the_objective_answers_nats_and_what_the_routers_owe_for_each_target():
    model, batch = make_model().eval(), small_batch()
    nats, num_right = MaskedLMLoss(model)(*batch)
    loss, still_right = add_router_losses(MaskedLMLoss(model), 0.5, 0.25)(*batch)
    balance, z = auxiliary_losses(model, batch[1])
    assert len(expert_layers(model)) == 2 and still_right == num_right
    by_hand = [balance_loss(layer.routing.logits, layer.routing.experts, batch[1].flatten()) for layer in expert_layers(model)]
    torch.testing.assert_close(balance, (by_hand[0] + by_hand[1]) / 2)
    torch.testing.assert_close(loss, nats + len(batch[3]) * (0.5 * balance + 0.25 * z))


def test_targets_that_only_fill_up_a_compiled_batch_owe_nothing():
    model, batch = make_model().eval(), small_batch()
    objective = add_router_losses(MaskedLMLoss(model), 0.5, 0.25)
    padded = pad_inputs((*batch, None), 9)
    assert len(padded[3]) == 64 > len(batch[3])
    torch.testing.assert_close(objective(*padded)[0], objective(*batch)[0])


def small_batch(batch_size=4):
    "Tensors as the objective takes them, padding among them."
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 60, (batch_size, 9), generator=generator)
    mask = torch.arange(9) < torch.tensor([9, 9, 7, 4] * (batch_size // 4))[:, None]
    predict_at = ((torch.rand(batch_size, 9, generator=generator) < 0.4) & mask).flatten().nonzero()[:, 0]
    return torch.randint(5, 60, (batch_size, 9), generator=generator), mask, predict_at, labels.flatten()[predict_at]


def test_a_model_without_experts_has_nothing_to_answer_for():
    with pytest.raises(ValueError, match=r"^MicroBertForMaskedLM has 0 layers of experts that have read a batch"):
        auxiliary_losses(MicroBertForMaskedLM(MicroBertConfig(20, 8, 1, 2, 12, max_seq_len=8)))
    with pytest.raises(ValueError, match="give it experts, and a batch, first$"):
        auxiliary_losses(make_model())


def test_forgotten_activations_change_no_gradient():
    "The routers' losses reach through a block that is computed twice."
    grads = []
    for forgets in (False, True):
        model = make_model(capacity_factor=0.8)
        if forgets:
            checkpoint_blocks(model)
        add_router_losses(MaskedLMLoss(model), 0.5, 0.25)(*small_batch())[0].backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*grads, strict=True))


def objective(model):
    return add_router_losses(MaskedLMLoss(model), balance_weight=1.0)


def test_the_training_loop_balances_what_collapses_without():
    "40 updates of a tiny model; the largest share of an expert at the end."
    largest = {}
    for make_objective in (MaskedLMLoss, objective):
        model = make_model(seed=2, top_k=1, normalize=False)
        config = TrainConfig(batch_size=8, num_steps=40, learning_rate=3e-2, device="cpu")
        training = Training(model, Small(), config, Accelerator(cpu=True), make_objective)
        for step in range(config.num_steps):
            training.update(step)
        largest[make_objective] = max(layer.routing.tokens_per_expert.max().item() / len(layer.routing.experts) for layer in expert_layers(model))
    assert largest[objective] < 0.4 < 0.55 < largest[MaskedLMLoss]  # 0.30 and 0.71


class Small:
    "Eight sentences of small_data a step, as masked language modelling."

    def __init__(self):
        self.small = small_data()
        self.tokenizer = self.small.tokenizer

    def batch(self, step, config):
        return make_batch(self.small.rows(step, config.batch_size, config.seed), self.tokenizer, 0.3, step)


def test_a_run_with_experts_goes_on_to_the_bit_after_an_interruption(tmp_path):
    config = TrainConfig(batch_size=8, num_steps=4, eval_every=2, learning_rate=1e-2, device="cpu")

    class Stop(Exception):
        pass

    def interrupt(model, scores):
        raise Stop

    def run(folder, **more):
        return run_task(config, tmp_path / folder, lambda accelerator, config: Task(
            make_model, Small(), "small", lambda model, accelerator: {"loss": 1.0}, objective,
            save=lambda model, folder: torch.save(model.state_dict(), folder / "model.pt")), progress=False, **more)

    whole = run("whole")
    with pytest.raises(Stop):
        run("broken", on_evaluation=interrupt)
    again = run("broken", resume="latest")
    assert all(torch.equal(*pair) for pair in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True))


# --- upcycling


@pytest.mark.parametrize("kind", FEED_FORWARDS)
@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_copies_behind_a_router_answer_what_the_dense_one_did(kind, top_k):
    torch.manual_seed(0)
    dense, tokens = FEED_FORWARDS[kind](6, 10), torch.randn(30, 6)
    torch.testing.assert_close(upcycle(dense, 6, 4, top_k)(tokens), dense(tokens))
    assert (upcycle(dense, 6, 4, top_k, normalize=False)(tokens) - dense(tokens)).abs().max() > 1e-3 or top_k == 4


def test_copies_share_no_memory_with_one_another_or_the_dense_one():
    dense = FeedForward(6, 10)
    layer = upcycle(dense, 6, 3)
    pointers = [p.data_ptr() for part in (dense, *layer.experts.values()) for p in part.parameters()]
    assert len(set(pointers)) == len(pointers) == 4 * 4


@pytest.mark.parametrize("every", [1, 2])
def test_a_model_with_copies_predicts_what_it_did_before(every):
    torch.manual_seed(0)
    bert = MicroBertForMaskedLM(MicroBertConfig(20, 8, 3, 2, 12, max_seq_len=8)).eval()
    modern = ModernForMaskedLM(ModernConfig(20, 8, 3, 2, 12, max_seq_len=8)).eval()
    input_ids = torch.randint(0, 20, (2, 7))
    for model in (bert, modern):
        before = model(input_ids)
        upcycled = upcycle_model(model, 4, every=every).eval()
        assert len(expert_layers(upcycled)) == 3 // every
        torch.testing.assert_close(upcycled(input_ids), before, rtol=1e-5, atol=1e-5)


def test_a_model_without_blocks_cannot_be_upcycled():
    with pytest.raises(ValueError, match="^Linear has 0 blocks: there is none to give experts to$"):
        upcycle_model(nn.Linear(2, 2), 4)
    with pytest.raises(ValueError, match="^every 3 is no step through 2 blocks: choose 1 to 2$"):
        make_model(every=3)


def test_active_parameters_leave_idle_experts_out():
    model = make_model(num_experts=4, top_k=1)
    one = sum(p.numel() for p in expert_layers(model)[0].experts["0"].parameters())
    assert active_parameters(model) == sum(p.numel() for p in model.parameters()) - 2 * 3 * one
    assert active_parameters(nn.Linear(3, 4)) == 16


# --- models read from their configuration

TINY = dict(vocab_size=50, hidden_size=24, num_hidden_layers=5, num_attention_heads=4, intermediate_size=20)
QWEN = dict(TINY, num_key_value_heads=2, moe_intermediate_size=6, num_experts=6, num_experts_per_tok=3)
LATENT = dict(TINY, moe_intermediate_size=6, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2, kv_lora_rank=5, qk_nope_head_dim=3,
              qk_rope_head_dim=2, v_head_dim=7, n_group=2, topk_group=1)
SWITCH = dict(vocab_size=50, d_model=12, d_kv=5, d_ff=14, num_heads=3, num_experts=4)
CONFIGURATIONS = [
    dict(TINY, model_type="mixtral", num_key_value_heads=2, num_local_experts=3),
    dict(TINY, model_type="mixtral", num_key_value_heads=1, head_dim=10, tie_word_embeddings=True),
    dict(QWEN, model_type="qwen2_moe", shared_expert_intermediate_size=11),
    dict(QWEN, model_type="qwen2_moe", shared_expert_intermediate_size=11, decoder_sparse_step=2, qkv_bias=False),
    dict(QWEN, model_type="qwen3_moe", head_dim=10, attention_bias=True),
    dict(QWEN, model_type="qwen3_moe", mlp_only_layers=[0, 3]),
    dict(LATENT, model_type="deepseek_v2", q_lora_rank=9, first_k_dense_replace=1),
    dict(LATENT, model_type="deepseek_v2", q_lora_rank=None, mlp_bias=True, attention_bias=True),
    dict(LATENT, model_type="deepseek_v3", q_lora_rank=9, attention_bias=True, first_k_dense_replace=2),
    dict(LATENT, model_type="deepseek_v3", q_lora_rank=None),
    dict(SWITCH, model_type="switch_transformers", num_layers=4, num_sparse_encoder_layers=2, num_decoder_layers=6, num_sparse_decoder_layers=2),
    dict(SWITCH, model_type="switch_transformers", num_layers=3, router_bias=True, tie_word_embeddings=False),
]


def as_built(values):
    "transformers' own model of this configuration, without memory."
    config = transformers.AutoConfig.for_model(**values)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config)


@pytest.mark.parametrize("values", CONFIGURATIONS, ids=[f"{values['model_type']}-{number}" for number, values in enumerate(CONFIGURATIONS)])
def test_formulas_count_what_transformers_builds(values):
    found, model = expert_model(values), as_built(values)
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    in_experts = sum(size for name, size in sizes.items() if ".experts." in name)
    assert found.total == sum(sizes.values())
    assert in_experts == found.num_expert_layers * found.num_experts * found.expert_parameters
    assert found.active == found.total - in_experts + in_experts * found.top_k // found.num_experts
    routers = [name for name in sizes if name.endswith(("mlp.gate.weight", "router.classifier.weight"))]
    assert len(routers) == found.num_expert_layers
    if values["model_type"] != "switch_transformers":
        assert f".{found.first_dense_layers}." in routers[0]


def test_published_sizes_come_out():
    "Mixtral 8x7B, DeepSeek-V3 and Qwen3-30B-A3B in billions, every table counted; published: 46.7 and 12.9, 671 and 37, 30.5 and 3.3."
    for values, total, active in (({"model_type": "mixtral"}, 46.7, 12.9), ({"model_type": "deepseek_v3"}, 671.0, 37.6),
                                  ({"model_type": "qwen3_moe", "num_hidden_layers": 48, "head_dim": 128}, 30.5, 3.4)):
        found = expert_model(values)
        assert (round(found.total / 1e9, 1), round(found.active / 1e9, 1)) == (total, active)


def test_a_configuration_may_be_a_dict_a_folder_or_an_object(tmp_path):
    values = CONFIGURATIONS[8]
    (tmp_path / "config.json").write_text(json.dumps({**values, "architectures": ["DeepseekV3ForCausalLM"], "auto_map": {"AutoConfig": "x"},
                                                      "quantization_config": {"quant_method": "fp8"}}))
    found = expert_model(values)
    assert read_configuration(values) is values and read_configuration(tmp_path)["model_type"] == "deepseek_v3"
    assert found == expert_model(tmp_path) == expert_model(str(tmp_path)) == expert_model(transformers.AutoConfig.for_model(**values))
    assert (found.family, found.num_layers, found.num_expert_layers, found.first_dense_layers) == ("deepseek_v3", 5, 3, 2)
    assert (found.num_experts, found.top_k, found.num_shared) == (8, 3, 2)


def test_memory_is_that_of_all_experts():
    found = ExpertModel("mixtral", 2, 1, 1, num_experts=8, top_k=2, num_shared=0, expert_parameters=100, total=1_000)
    assert found.active == 400
    assert found.memory_bytes() == {"fp32": 4 * found.total, "bf16": 2 * found.total, "int8": found.total, "4 bits": found.total / 2}


@pytest.mark.parametrize(("values", "sentence"), [
    ({"model_type": "bert"}, "this bert configuration describes no experts: give one that does, of the family mixtral, "),
    ({"model_type": "qwen3_moe", "num_experts": 0}, "this qwen3_moe configuration describes no experts"),
    ({"model_type": "mixtral", "num_experts_per_tok": 9}, "num_experts_per_tok 9 is not a number of experts out of 8: choose 1 to 8"),
    ({"model_type": "deepseek_v2"}, "num_experts_per_tok None is not a number of experts out of 64: choose 1 to 64"),
    ({"model_type": "mixtral", "hidden_size": "wide"}, "transformers refuses this mixtral configuration: Validation error for field 'hidden_size'"),
    ({"model_type": "olmoe", "num_experts": 64}, "this olmoe configuration has experts, of a family not known here: the known ones are " + ", ".join(FAMILIES)),
    ({"num_local_experts": 8}, "this nameless configuration has experts, of a family not known here"),
])
def test_a_configuration_that_does_not_serve_is_refused_with_a_sentence(values, sentence):
    with pytest.raises(CourseError) as caught:
        expert_model(values)
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(CourseError, match="config.json does not exist"):
        expert_model(tmp_path)


def test_experts_are_detected_in_families_that_are_not_known_too():
    assert has_experts({"model_type": "olmoe", "num_experts": 64}) and has_experts(CONFIGURATIONS[0])
    assert not has_experts({"model_type": "llama"}) and not has_experts(dict(QWEN, model_type="qwen2_moe", mlp_only_layers=[0, 1, 2, 3, 4]))


def test_a_gated_layer_without_biases_holds_mixtrals_weights():
    layer = without_biases(make_layer())
    assert [tuple(p.shape) for p in layer.experts["0"].parameters()] == [(20, 6), (6, 10)]
