"""Panels that every experiment shows before its results: targets, states, eigenvalues.

Controls and axes are the same everywhere; an experiment passes functions for what is special to it.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any, Protocol

import plotly.graph_objects as go
import torch
from torch import Tensor, nn

from lab.plots import figures, fit
from lab.plots.controls import Choice, Slider
from lab.plots.panel import Panel
from lab.seeding import stream
from lab.tasks import Batch, Task

Models = nn.Module | Mapping[str, nn.Module] | Mapping[str, Sequence[nn.Module]]
Inputs = Tensor | Callable[..., Tensor]
Symbols = Sequence[str] | Mapping[str, Any]
_EXAMPLES = 20
_ALONE = "model"  # the name of a model, or task, that was given without a name


def targets(
    tasks: Task | Mapping[str, Task] | None = None, *,
    length: int | Mapping[str, int] | None = None, title: str = "",
    symbols: Symbols | None = None, rows: tuple[str, str] = ("input", "target"),
    draw: Callable[..., go.Figure] | None = None, **controls: Slider | Choice,
) -> Panel:  # fmt: skip
    """Examples of a task, chosen by a slider: cells for tokens, curves for numbers.

    Args:
        tasks: one task, or several by name.
        length: time steps of an example: one number for all tasks, or one per task name. Required
            unless `draw` is given.
        title: what the figure shows.
        symbols: symbols of the tokens 0, 1, ...: one list for both rows, or one list per row name;
            or either of these per task name.
        rows: the names of the input and of the target.
        draw: a function of the values of `controls` that returns the figure; it replaces the
            drawing of examples.
        controls: the controls of `draw`.

    Raises:
        ValueError: neither a task with a length nor `draw` is given.
    """
    if draw is not None:
        return Panel(draw, **controls)
    if tasks is None or length is None:
        raise ValueError("targets needs a task and a length, or a function `draw`")
    every = tasks if isinstance(tasks, Mapping) else {_ALONE: tasks}

    def example(task: str = _ALONE, sequence: int = 0) -> go.Figure:
        steps = length[task] if isinstance(length, Mapping) else length
        batch = every[task].sample(_EXAMPLES, steps, stream(0, "panel"))
        one = Batch(*(part[int(sequence)] for part in batch))
        if one.inputs.is_floating_point():
            return _curves(one, rows, title or "A target")
        told = symbols.get(task, symbols) if isinstance(symbols, Mapping) else symbols
        asked = torch.where(one.mask, one.targets, -1)  # empty cells where no target is scored
        shown = dict(zip(rows, (one.inputs, asked), strict=True))
        return figures.tokens(shown, symbols=told, title=title or "A sequence and its targets")

    found: dict[str, Any] = {} if len(every) == 1 else {"task": Choice("task", list(every))}
    found["sequence"] = Slider("sequence", 0, 0, _EXAMPLES - 1, 1)
    return _panel(example, every, {**found, **controls}, "task")


def examples(task: Task, *, length: int) -> Tensor:
    """Inputs of the examples that `targets` shows, ["20 T ..."]; short ones padded with zeros."""
    inputs = task.sample(_EXAMPLES, length, stream(0, "panel")).inputs
    if inputs.shape[1] == length or not inputs.is_floating_point():
        return inputs
    silence = inputs.new_zeros(len(inputs), length - inputs.shape[1], *inputs.shape[2:])
    return torch.cat([inputs, silence], dim=1)


def states(
    models: Models, inputs: Inputs, *, draw: Callable[..., go.Figure] | None = None,
    title: str = "", **controls: Slider | Choice,
) -> Panel:  # fmt: skip
    """The state of a layer along a sequence: its modes, and the magnitudes of states and updates.

    Args:
        models: a mixer, a model with several layers, or several of these by name; a list under one
            name holds the models of several seeds.
        inputs: ["sequences T ..."], what the models read; or a function of the name of a model and
            the values of `controls` that returns 20 such sequences.
        draw: returns the figure that replaces the plot of the modes. It is called with the states
            ["T ..."], with the values of `controls` if `inputs` is not a function, and with the
            name of the model if it has an argument `model`.
        title: what the figure shows; it follows the name of the model.
        controls: further controls.
    """
    arms = _arms(models)

    @torch.no_grad()
    def shown(
        model: str = _ALONE, seed: int = 0, layer: int = 1, sequence: int = 0, **more: Any
    ) -> go.Figure:
        chosen, x = arms[model][int(seed)], _input(inputs, model, int(sequence), more)
        h = _of_layer(chosen, "states", x, int(layer))[0]
        rest = {} if callable(inputs) else more
        figure = (
            draw(h, **_asked(draw, model), **rest) if draw else figures.trajectories(h.flatten(1))
        )
        return _named(figure, model, title or "states along a sequence")

    return _panel(shown, arms, {**_usual(arms), **_sequences(inputs), **controls}, "model")


def eigenvalues(
    models: Models | None = None, inputs: Inputs | None = None, *,
    spectra: Callable[..., Mapping[str, Tensor]] | None = None,
    draw: Callable[..., go.Figure] | None = None, title: str = "", **controls: Slider | Choice,
) -> Panel:  # fmt: skip
    """Eigenvalues of the transition at every step, with the unit circle; modes inside it decay.

    For memories these are gains: the factor by which a step multiplies what was stored.

    Args:
        models: as in `states`.
        inputs: as in `states`; required unless `spectra` or `draw` is given.
        spectra: returns eigenvalues, Complex["N"], by name, such as the name of a token. It is
            called with a model, the values of `controls`, and the name of the model if it has an
            argument `model`.
        draw: a function of the values of `controls` that returns the figure; it replaces the
            drawing of eigenvalues.
        title: what the figure shows; it follows the name of the model.
        controls: the controls of `spectra` or `draw`, or further ones of a function `inputs`.

    Raises:
        ValueError: none of `draw`, `spectra` and `inputs` is given, or there are no models.
    """
    if draw is not None:
        return Panel(draw, **controls)
    if models is None or (inputs is None and spectra is None):
        raise ValueError("eigenvalues needs models, and inputs or a function `spectra`")
    arms = _arms(models)

    @torch.no_grad()
    def shown(
        model: str = _ALONE, seed: int = 0, layer: int = 1, step: int = 0, sequence: int = 0,
        **more: Any,
    ) -> go.Figure:  # fmt: skip
        chosen, others = arms[model][int(seed)], None
        if spectra is not None:
            found = spectra(chosen, **_asked(spectra, model), **more)
        else:
            assert inputs is not None
            x = _input(inputs, model, int(sequence), more)
            every = _of_layer(chosen, "eigenvalues", x, int(layer))[0].flatten(1)
            found = {f"step {step}": every[min(int(step), len(every) - 1)]}
            others = every.flatten()
        figure = _on_the_circle(found, others)
        return _named(figure, model, title or "eigenvalues of a step")

    if spectra is not None:
        found = {name: each for name, each in _usual(arms).items() if name != "layer"}
        return _panel(shown, arms, {**found, **controls}, "model")
    assert inputs is not None
    last = _input(inputs, next(iter(arms)), 0, _values(controls)).shape[1] - 1
    along = {"step": Slider("step", 0, 0, last, 1, play=True)}
    return _panel(shown, arms, {**_usual(arms), **along, **_sequences(inputs), **controls}, "model")


@torch.no_grad()
def by_token(model: Any) -> Tensor:
    """Complex["V N"]: eigenvalues of the first layer, for every token as the first of a sequence.

    Watched in training under the name "eigenvalues", it is what `in_training` shows.
    """
    each = torch.arange(model.vocabulary, device=next(model.parameters()).device)
    found: Tensor = model.eigenvalues(each[:, None])[:, 0]
    return found.flatten(1)


class Watched(Protocol):
    """What a training kept on its way; see `lab.train.History`."""

    watched: dict[str, Tensor]
    watched_at: list[int]


def in_training(
    histories: Mapping[str, Sequence[Watched]],
    *,
    symbols: Mapping[str, Sequence[str]] | None = None,
    watched: str = "eigenvalues",
    draw: Callable[[Mapping[str, Tensor], int], go.Figure] | None = None,
) -> Panel:
    """What was watched in training, from the first update to the last.

    Without a `draw`, eigenvalues of two tokens against the unit circle.

    Args:
        histories: those of all seeds by the name of the arm, with what `by_token` returned.
        symbols: of the tokens, by the name of the arm; their numbers if None.
        watched: the name under which it was watched.
        draw: called with all that was watched in one training, by name, ["snapshots ..."] each,
            and with the number of a snapshot, in place of all this.

    Raises:
        ValueError: an arm was not watched.
    """
    if draw is not None:
        return _through_training(histories, lambda history, at: draw(history.watched, at), {})
    if blind := [name for name, each in histories.items() if watched not in each[0].watched]:
        raise ValueError(f"{', '.join(blind)}: nothing was watched as {watched!r} in training")
    last = max(each[0].watched[watched].shape[1] for each in histories.values()) - 1

    def tokens(
        history: Watched, at: int, *, model: str = _ALONE, one: int = 0, other: int = 0
    ) -> go.Figure:
        seen = history.watched[watched][at]
        names = None if symbols is None else symbols[model]
        spectra = {}
        for token in (min(int(one), len(seen) - 1), min(int(other), len(seen) - 1)):
            spectra[f"token {token}" if names is None else names[token]] = seen[token]
        return _on_the_circle(spectra)

    of_tokens = {
        "one": Slider("token", 0, 0, last, 1),
        "other": Slider("and token", min(1, last), 0, last, 1),
    }
    return _through_training(histories, tokens, of_tokens)


def _through_training(
    histories: Mapping[str, Sequence[Watched]], draw: Callable[..., go.Figure],
    controls: Mapping[str, Slider],
) -> Panel:  # fmt: skip
    """A panel over snapshots; `draw` has a history, the number of one, and perhaps `model`."""

    def shown(
        model: str = next(iter(histories)), seed: int = 0, training: int = 100, **more: Any
    ) -> go.Figure:
        history = histories[model][int(seed)]
        at = round(training / 100 * (len(history.watched_at) - 1))
        figure = draw(history, at, **_asked(draw, model), **more)
        return _named(figure, model, f"eigenvalues after {history.watched_at[at]} updates")

    found: dict[str, Any] = _chosen(histories)
    if (seeds := min(map(len, histories.values()))) > 1:
        found["seed"] = Slider("seed", 0, 0, seeds - 1, 1)
    training = Slider("training, %", 100, 0, 100, 2, play=True)
    return Panel(shown, **found, **controls, training=training)


def _panel(
    draw: Callable[..., go.Figure], named: Mapping[str, Any], controls: Mapping[str, Any], what: str
) -> Panel:
    """A panel; if there is no control for the model or task, the only one is drawn."""
    if what in controls:
        return Panel(draw, **controls)
    return Panel(lambda **values: draw(**{what: next(iter(named))}, **values), **controls)


def _arms(models: Models) -> dict[str, Sequence[nn.Module]]:
    """A list of models, one per seed, for every name."""
    named = models if isinstance(models, Mapping) else {_ALONE: models}
    return {
        name: [each] if isinstance(each, nn.Module) else list(each) for name, each in named.items()
    }


def _chosen(arms: Mapping[str, Any]) -> dict[str, Any]:
    return {} if len(arms) == 1 else {"model": Choice("model", list(arms))}


def _usual(arms: Mapping[str, Sequence[nn.Module]]) -> dict[str, Any]:
    """Controls for the model, its seed and its layer; each only if there is more than one."""
    seeds = min(len(each) for each in arms.values())
    layers = min(_layers(model) for each in arms.values() for model in each)
    found = _chosen(arms)
    if seeds > 1:
        found["seed"] = Slider("seed", 0, 0, seeds - 1, 1)
    if layers > 1:
        found["layer"] = Slider("layer", 1, 1, layers, 1)
    return found


def _layers(model: nn.Module) -> int:
    mixers = getattr(model, "mixers", None)
    return len(mixers) if isinstance(mixers, nn.ModuleList) else 1


def _of_layer(model: nn.Module, what: str, x: Tensor, layer: int) -> Tensor:
    """States or eigenvalues of a mixer, or of one layer of a model; layers are counted from 1."""
    method = getattr(model, what)
    weight = next(model.parameters())
    x = x.to(weight if x.is_floating_point() else weight.device)
    found: Tensor = method(x, layer - 1) if hasattr(model, "mixers") else method(x)
    return found


def _input(inputs: Inputs, model: str, sequence: int, more: Mapping[str, Any]) -> Tensor:
    """["1 T ..."]: one sequence."""
    every = inputs(model, **more) if callable(inputs) else inputs
    return every[[sequence]]


def _sequences(inputs: Inputs) -> dict[str, Any]:
    count = len(inputs) if isinstance(inputs, Tensor) else _EXAMPLES
    return {"sequence": Slider("sequence", 0, 0, count - 1, 1)} if count > 1 else {}


def _asked(function: Callable[..., Any], model: str) -> dict[str, str]:
    """The name of the model as a keyword argument, if the function has an argument `model`."""
    return {"model": model} if "model" in signature(function).parameters else {}


def _values(controls: Mapping[str, Slider | Choice]) -> dict[str, Any]:
    return {name: control.value for name, control in controls.items()}


def _named(figure: go.Figure, model: str, title: str) -> go.Figure:
    """The figure; if it has no title, it gets one that begins with the model's name, if any."""
    if not figure.layout.title.text:
        whole = title[:1].upper() + title[1:] if model == _ALONE else f"{model}: {title}"
        figure.update_layout(title_text=whole)
    return figure


def _on_the_circle(spectra: Mapping[str, Tensor], others: Tensor | None = None) -> go.Figure:
    """Eigenvalues by name, on axes that always hold the whole unit circle.

    Args:
        spectra: Complex["N"] by name.
        others: Complex["M"], the eigenvalues of all steps, drawn as grey dots.
    """
    figure = figures.transitions({name: each.to(torch.complex64) for name, each in spectra.items()})
    drawn = [*spectra.values()]
    if others is not None:
        # Eigenvalues that agree to three digits, which a screen cannot resolve, are drawn once.
        dots = torch.view_as_real(others.to(torch.complex64)).mul(1000).round().unique(dim=0) / 1000
        figure.add_scatter(
            x=dots[:, 0].numpy(), y=dots[:, 1].numpy(), mode="markers", name="all steps",
            marker={"color": figures.GREY, "size": 4, "opacity": 0.5}, hoverinfo="skip",
        )  # fmt: skip
        figure.update_layout(showlegend=True)
        drawn.append(others)
    reach = 1.1 * max(1.0, *(float(each.abs().max()) for each in drawn))
    figure.update_xaxes(range=[-reach, reach]).update_yaxes(range=[-reach, reach])
    return fit.fit(figure)


def _curves(example: Batch, rows: tuple[str, str], title: str) -> go.Figure:
    """Input and target, which are numbers, over time; a shorter input is padded with zeros."""
    series = {}
    for name, values in zip(rows, (example.inputs, example.targets), strict=True):
        flat = values.flatten(1) if values.ndim > 1 else values[:, None]
        silence = flat.new_zeros(len(example.targets) - len(flat), flat.shape[1])
        for i, channel in enumerate(torch.cat([flat, silence]).unbind(1)):
            series[name if flat.shape[1] == 1 else f"{name} {i}"] = channel
    return figures.lines(series, x_title="step", y_title="value", title=title)
