"""Models of token sequences: encoder, pre-norm residual blocks and head; and their text."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, get_args

import torch
from jaxtyping import Complex, Float, Inexact, Int64
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from lab.arguments import finite, refuse, whole
from lab.mixers.state_space import look_up
from lab.nn.guard import Guarded, Method, check_tokens
from lab.nn.linear import linear
from lab.seeding import stream

Norm = Literal["rms", "layer"]
Visit = Callable[[Any, Tensor], None]
_NORMS: dict[str, Callable[..., nn.Module]] = {"rms": nn.RMSNorm, "layer": nn.LayerNorm}


class SwiGLU(nn.Module):
    """W_3 (silu(W_1 x) * W_2 x), position-wise and without biases: 3 D d_hidden parameters.

    Source: Shazeer 2020, GLU variants improve transformer.
    """

    def __init__(
        self, d_model: int, d_hidden: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        widen = partial(linear, d_model, d_hidden, bias=False, generator=generator)
        self.gate, self.value = widen(), widen()
        self.out = linear(d_hidden, d_model, bias=False, generator=generator)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """["... D"] to ["... D"]."""
        y: Tensor = self.out(silu(self.gate(x)) * self.value(x))
        return y


class FeedForward(nn.Module):
    """W_2 gelu(W_1 x + b_1) + b_2, position-wise: 2 D d_hidden + d_hidden + D parameters.

    Source: Vaswani et al. 2017, section 3.3, with the GELU of GPT-2 in place of the ReLU.
    """

    def __init__(
        self, d_model: int, d_hidden: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.widen = linear(d_model, d_hidden, generator=generator)
        self.out = linear(d_hidden, d_model, generator=generator)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """["... D"] to ["... D"]."""
        y: Tensor = self.out(gelu(self.widen(x)))
        return y


def _sequence(model: nn.Module, method: Method, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
    check_tokens(model, tokens, "B T")
    return method(model, tokens, *args, **kwargs)


def _step(model: nn.Module, method: Method, tokens: Tensor, *args: Any, **kwargs: Any) -> Any:
    check_tokens(model, tokens, "B")
    return method(model, tokens, *args, **kwargs)


class SequenceModel(Guarded):
    """Logits at every step of a token sequence.

    The residual stream starts as u = embedding[token] (+ position). Every layer adds
    mixer(norm(u)) and then, if it has a channel mixer, channel(norm(u)). The logits are
    head(norm(u)).

    If the input of the first mixer depends only on the token, a mixer that has `of_tokens` is
    called with the table of all tokens, and computes its transitions once per token.

    Args:
        vocabulary: number of tokens V.
        classes: number of classes of a step.
        d_model: D.
        mixers: one sequence mixer per layer, ["B T D"] to ["B T D"].
        channels: one position-wise channel mixer per layer; no channel mixers if None.
        positions: number of learned position embeddings, the longest length of a sequence; 0 for
            none. Longer sequences raise a ValueError, unless `shared_last` is set.
        shared_last: whether all later steps use the last position embedding, which allows any
            length.
        norm: "rms" or "layer", with weights.
        head: ["... D"] to ["... classes"]; a dense layer if None.
        tied: whether the logits are products with the embeddings, instead of a head. Embeddings
            then start with a standard deviation of 0.02, as in GPT-2, in place of 1: otherwise the
            first logits are of the size sqrt(D).
        generator: random stream of the initial weights.

    Raises:
        ValueError: the numbers of mixers and channels differ, the norm is unknown, or a tied model
            has a head or another number of classes than of tokens.
    """

    guards: ClassVar = {
        "forward": _sequence,
        "states": _sequence,
        "eigenvalues": _sequence,
        "mixer_inputs": _sequence,
        "step": _step,
    }

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        d_model: int,
        mixers: Sequence[nn.Module],
        *,
        channels: Sequence[nn.Module] | None = None,
        positions: int = 0,
        shared_last: bool = False,
        norm: Norm = "rms",
        head: nn.Module | None = None,
        tied: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if norm not in _NORMS:
            raise ValueError(f"norm is {norm!r}; it must be one of {get_args(Norm)}")
        if channels is not None and len(channels) != len(mixers):
            raise ValueError(f"{len(mixers)} mixers and {len(channels)} channels: give one of each")
        if tied and (head is not None or classes != vocabulary):
            given = f"{classes} classes, {vocabulary} tokens, head {head}"
            raise ValueError(f"{given}: a tied model has as many classes as tokens, and no head")
        self.vocabulary, self.classes = vocabulary, classes

        def norms(count: int) -> nn.ModuleList:
            return nn.ModuleList(_NORMS[norm](d_model, eps=1e-6) for _ in range(count))

        spread = 0.02 if tied else 1.0
        drawn = torch.randn(vocabulary, d_model, generator=generator)
        self.embedding = nn.Parameter(spread * drawn)
        self.positions = (
            nn.Parameter(0.02 * torch.randn(positions, d_model, generator=generator))
            if positions
            else None
        )
        self.shared_last = shared_last
        # Mixers are called, and nothing is assumed of their parts.
        self.mixers: Any = nn.ModuleList(mixers)
        self.mixer_norms: Any = norms(len(mixers))
        self.channels: Any = nn.ModuleList(channels or [])
        self.channel_norms: Any = norms(len(self.channels))
        self.norm: Any = norms(1)[0]
        self.head: Any = None if tied else head or linear(d_model, classes, generator=generator)

    def forward(self, tokens: Int64[Tensor, "B T"]) -> Float[Tensor, "B T classes"]:
        """Int64["B T"] to logits ["B T classes"]."""
        return self._logits(self._stream(tokens, len(self.mixers)))

    def step(
        self, tokens: Int64[Tensor, "B"], state: Any = None
    ) -> tuple[Float[Tensor, "B classes"], Any]:
        """`forward` as a recurrence: Int64["B"] to logits ["B classes"] and the next state."""
        t, states = (0, [None] * len(self.mixers)) if state is None else state
        u, following = self.embedded(tokens), []
        if self.positions is not None:
            u = u + self._position(slice(t, t + 1))
        for layer, mixer in enumerate(self.mixers):
            y, after = mixer.step(self.mixer_norms[layer](u), states[layer])
            following.append(after)
            u = self._mixed_channels(u + y, layer)
        return self._logits(u), (t + 1, following)

    def states(self, tokens: Int64[Tensor, "B T"], layer: int = 0) -> Inexact[Tensor, "B T ..."]:
        """The states of a layer's mixer after every step."""
        return self.mixers[layer].states(self.mixer_inputs(tokens, layer))

    def eigenvalues(self, tokens: Int64[Tensor, "B T"], layer: int = 0) -> Complex[Tensor, "B T N"]:
        """Eigenvalues of the transitions of a layer's mixer."""
        return self.mixers[layer].eigenvalues(self.mixer_inputs(tokens, layer))

    def mixer_inputs(self, tokens: Int64[Tensor, "B T"], layer: int = 0) -> Float[Tensor, "B T D"]:
        """The input of a layer's mixer."""
        return self.mixer_norms[layer](self._stream(tokens, layer))

    def embedded(self, tokens: Int64[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """The embeddings of tokens; a subclass may put them together from those of their parts."""
        return look_up(self.embedding, tokens)

    def _stream(self, tokens: Tensor, layers: int, visit: Visit | None = None) -> Tensor:
        """["B T D"]: the residual stream after the first `layers` layers.

        `visit`, if there is one, is called with each mixer and its input, before the mixer.
        """
        u = self.embedded(tokens)
        if self.positions is not None:
            u = u + self._position(slice(0, tokens.shape[1]))
        has_table = self.positions is None and type(self).embedded is SequenceModel.embedded
        has_table = has_table and visit is None  # the table is no input of a sequence
        for layer, mixer in enumerate(self.mixers[:layers]):
            norm = self.mixer_norms[layer]
            if layer == 0 and has_table and hasattr(mixer, "of_tokens"):
                u = u + mixer.of_tokens(norm(self.embedding), tokens)
            else:
                x = norm(u)
                if visit is not None:
                    visit(mixer, x)
                u = u + mixer(x)
            u = self._mixed_channels(u, layer)
        return u

    def _logits(self, u: Tensor) -> Tensor:
        u = self.norm(u)
        logits: Tensor = u @ self.embedding.mT if self.head is None else self.head(u)
        return logits

    def _position(self, steps: slice) -> Tensor:
        """["steps D"]: the embeddings of the given positions."""
        assert self.positions is not None
        if self.shared_last:
            each = torch.arange(steps.start, steps.stop, device=self.positions.device)
            return look_up(self.positions, each.clamp_max(len(self.positions) - 1))
        if steps.stop > len(self.positions):
            longest = len(self.positions)
            raise ValueError(f"{steps.stop} steps, and there are positions for {longest} at most")
        return self.positions[steps]

    def _mixed_channels(self, u: Tensor, layer: int) -> Tensor:
        if not self.channels:
            return u
        return u + self.channels[layer](self.channel_norms[layer](u))


class PenalisedModel(SequenceModel):
    """A model whose mixers have a `barrier`; it can return the mean of them beside its logits.

    Called with a second argument of True, it returns both, computed in one pass, as a task with a
    penalty asks (`lab.tasks.Penalised`). Otherwise it is the `SequenceModel` that it is built as.

    Source: the trainer of K-SSM v3, as experiment 100 states it.
    """

    def forward(self, tokens: Int64[Tensor, "B T"], with_barrier: bool = False) -> Any:
        """Int64["B T"] to logits ["B T classes"], or to these and the barrier, one number."""
        if not with_barrier:
            return super().forward(tokens)
        barriers: list[Tensor] = []
        u = self._stream(
            tokens, len(self.mixers), lambda mixer, x: barriers.append(mixer.barrier(x))
        )
        return self._logits(u), torch.stack(barriers).mean()


class Stepping(Protocol):
    """What can be generated from: a model, or counts of n-grams."""

    def step(
        self, tokens: Int64[Tensor, "B"], state: Any = None
    ) -> tuple[Float[Tensor, "B V"], Any]:
        """A token in each row and a state to logits of the next token and the next state."""


@torch.no_grad()
def generate(
    model: Stepping,
    prompt: Int64[Tensor, "B P"],
    *,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int,
) -> Int64[Tensor, "B length"]:
    """Tokens that continue a prompt, each drawn from the model's prediction after those before.

    The model is called once a token, by its step form: time is proportional to P + length for every
    mixer whose state has a fixed size.

    Args:
        model: its logits are of the tokens that come next. Its mode, training or evaluation, stays.
        prompt: at least one token in each row.
        length: tokens to generate, at least 0.
        temperature: what logits are divided by; 0 always takes the likeliest token.
        top_k: only the k likeliest tokens can be drawn; all if None.
        seed: of the draws. Rows draw numbers of their own.

    Raises:
        TypeError: the prompt is no tensor.
        ValueError: the prompt is not Int64["B P"] with P of at least 1, another argument is not as
            above, or the model has fewer positions than tokens to read, P + length - 1.
    """
    whole("generate", "length", length, least=0)
    finite("generate", "temperature", temperature, least=0)
    if top_k is not None:
        whole("generate", "top_k", top_k, least=1)
    if not isinstance(prompt, Tensor):
        raise TypeError(
            f"generate: prompt is a {type(prompt).__name__}; it must be a tensor (B, P)"
        )
    if prompt.ndim != 2 or not prompt.shape[1] or prompt.dtype != torch.int64:
        given = f"{prompt.dtype} {tuple(prompt.shape)}"
        refuse("generate", "prompt", given, "torch.int64 (B, P) with at least one token P")
    generator, state, logits = stream(seed, "generation"), None, None
    said: list[Tensor] = []
    for tokens in prompt.unbind(1):
        logits, state = model.step(tokens, state)
    for t in range(length):
        if t:
            logits, state = model.step(said[-1], state)
        assert logits is not None
        said.append(draw_token(logits, temperature, top_k, generator))
    return torch.stack(said, dim=1) if said else prompt[:, :0]


def draw_token(
    logits: Float[Tensor, "B V"],
    temperature: float,
    top_k: int | None,
    generator: torch.Generator,
) -> Int64[Tensor, "B"]:
    """One token for each row: see `generate`."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.double()
    if top_k is not None and top_k < logits.shape[1]:
        least = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    # Drawn on the CPU, so that a seed gives the same text wherever the logits are computed.
    shares = (logits / temperature).softmax(-1).cpu()
    return torch.multinomial(shares, 1, generator=generator)[:, 0].to(logits.device)


def residual_model(
    task: Any,
    seed: int,
    *,
    d_model: int,
    mixer: Callable[[torch.Generator], nn.Module],
    layers: int = 2,
    d_hidden: int = 0,
    **settings: Any,
) -> SequenceModel:
    """A model for a task, all of it drawn from one stream of a seed: mixers, channels, the rest.

    With `mixer` and the sizes filled in by `functools.partial` it is an arm of an experiment.

    Args:
        task: whose `vocabulary` and `classes` the model has.
        seed: of the stream "init".
        d_model: D.
        mixer: called once a layer with the stream; returns ["B T D"] to ["B T D"].
        layers: how many.
        d_hidden: width of the SwiGLU after every mixer; there is none if 0.
        settings: of `SequenceModel`.
    """
    generator = stream(seed, "init")
    mixers = [mixer(generator) for _ in range(layers)]
    channels = [SwiGLU(d_model, d_hidden, generator=generator) for _ in mixers if d_hidden]
    return SequenceModel(
        task.vocabulary, task.classes, d_model, mixers, channels=channels or None,
        generator=generator, **settings,
    )  # fmt: skip
