"""Figures as notebooks draw them: up to fourteen arms with long names, seven seeds, levels."""

import itertools

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from lab.plots import figures, looks
from lab.statistics import Interval

ARMS = [
    "displacement rank 4, balanced", "Cayley, alpha 2", "diagonal", "BlockHouseholder",
    "fixed blocks, 2 layers", "linear attention with convolution", "softmax attention",
    "ReLU, cosine, levels, convolution", "elu, levels", "DeltaProduct", "alpha 0",
    "alpha 4, Stein", "selective diagonal", "gated linear attention",
]  # fmt: skip
LONG = "Loss, mean over all steps, one label after 20 swaps: neither model gets below the parity"


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shares(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(high, steps, seed=0):
    return torch.randint(0, high, (steps,), generator=torch.Generator().manual_seed(seed))


def losses(count, seeds=7):
    curves = {}
    for i, arm in enumerate(ARMS[:count]):
        curves[arm] = (0.1 * normal(seeds, 900, seed=i) - torch.linspace(0, 3 + 0.3 * i, 900)).exp()
    return figures.losses(curves, floors={"ln 120: nothing known": 4.79, "ln 60": 4.09}, title=LONG)


def accuracy(count, points=4, **settings):
    runs = {arm: shares(7, points, seed=i).sort(descending=True).values
            for i, arm in enumerate(ARMS[:count])}  # fmt: skip
    levels = {"chance": 0.125, "commonest value": 0.16, "abelian ceiling": 0.25}
    settings = {"x": [32, 64, 128, 256], "x_title": "tokens"} | settings
    return figures.accuracy(runs, levels=levels, title="Trained on 20 tokens", **settings)


def lines(count):
    series = {arm: normal(100, seed=i).cumsum(0).exp() for i, arm in enumerate(ARMS[:count])}
    series["straight line"] = torch.logspace(-3, 3, 100)
    return figures.lines(
        series, x_title="step", y_title="|A...A|", log=True, dashed=["straight line"],
        levels={"bound": 1.0}, title="Growth of the state",
    )  # fmt: skip


def bands():
    def found(seed):
        means = normal(5, seed=seed)
        return [Interval(m, m - 0.3, m + 0.5) for m in means.tolist()]

    return figures.bands(
        {"do(R = r)": found(0), "placebo": found(1)}, x=[0.1, 0.3, 0.5, 0.7, 0.9], x_title="r",
        y_title="change of the loss, bits per byte", dashed=["placebo"], title="Dose and response",
    )  # fmt: skip


def scaling(count):
    times = {arm: {2**k: (1 + i) * 2**k / 1000 for k in range(8, 16)}
             for i, arm in enumerate([*ARMS[:count], "memory traffic"])}  # fmt: skip
    return figures.scaling(
        times, dashed=["memory traffic"], x_title="steps T", y_title="time, ms", title="64 columns"
    )


def recall(count):
    curves = {arm: {2**k: shares(3, seed=k + i).tolist() for k in range(8, 13)}
              for i, arm in enumerate(ARMS[:count])}  # fmt: skip
    return figures.recall(curves, levels={"a guess": 1 / 32}, needed=400, title="Recall of 8 pairs")


def strips(count, **settings):
    values = {arm: shares(7, seed=i).round() for i, arm in enumerate(ARMS[:count])}
    return figures.strips(
        values, y_title="accuracy", log=False, solved=0.95, limits={"chance": 0.125},
        title="8 pairs: every arm, every seed", **settings,
    )  # fmt: skip


def grouped_strips():
    kinds = ("layer 1, key", "layer 1, value", "layer 2, key", "layer 2, value")
    values = {kind: {f"seed {s}": shares(80, seed=s) for s in range(3)} for kind in kinds}
    return figures.strips(values, y_title="gate", log=False, title="Mean gate of a step")


def errors():
    values = {f"{arm}, {n} steps": (3 * normal(7, seed=n) - 8).exp()
              for arm in ARMS[1:4] for n in (128, 512)}  # fmt: skip
    return figures.strips(values, y_title="mean squared error", limits={"C1": 1e-6, "C2": 1e-4},
                          title="Every seed")  # fmt: skip


def ranges():
    times = {arm: (1.0 + i, 1.2 + i, 2.0 + i) for i, arm in enumerate(ARMS[:8])}
    return figures.ranges(
        times, x_title="time, ms", limits={"memory traffic": 0.9, "fresh": 1.4}, title="Scan"
    )


def recovered():
    true = {arm: (shares(6), shares(6, seed=1)) for arm in ARMS[:3]}
    learned = {arm: (shares(6, seed=i), shares(6, seed=i + 9)) for i, arm in enumerate(ARMS[:3])}
    return figures.recovered(true, learned, title="Learned against true oscillators")


def slopes():
    pairs = {arm: (shares(7, seed=i), shares(7, seed=i + 5)) for i, arm in enumerate(ARMS[:4])}
    return figures.slopes(
        pairs, ends=("without", "gate"), title="Every seed", levels={"chance": 0.1}
    )


def intervals():
    differences = {arm: normal(8, seed=i) + i for i, arm in enumerate(ARMS[:6])}
    found = {arm: Interval(i, i - 0.5, i + 0.5) for i, arm in enumerate(differences)}
    return figures.intervals(differences, found, x_title="points", title="Effects")


A = torch.complex(-normal(16).abs() / 10, normal(16, seed=1))


def eigenvalues():
    times = torch.linspace(0.1, 1, 10)[:, None]
    return figures.eigenvalues(
        A, (A / 10).exp(), path=(A * times, (A * times / 10).exp()), title="After 1,200 updates"
    )


def transitions():
    spectra = {arm: torch.complex(normal(12, seed=i), normal(12, seed=i + 9)) * 0.6
               for i, arm in enumerate(ARMS[:6])}  # fmt: skip
    return figures.transitions(spectra, title="Transitions for the letter r, all heads and seeds")


def heatmaps():
    h = normal(48, 12)
    return figures.heatmaps({"h, in space": h, "its size": h.abs()}, title="State of a layer")


def matrices():
    outline = torch.eye(8, dtype=torch.bool)
    return figures.matrices(
        {"a block": normal(8, 8), "its mask": normal(8, 8) > 0}, outline=outline, title="Blocks"
    )


def trajectories():
    return figures.trajectories((A * torch.arange(128)[:, None] / 10).exp(), title="States")


def word():
    names = ["".join(map(str, order)) for order in itertools.permutations(range(5))]
    return figures.tokens(
        {"token": tokens(2, 20), "arrangement": tokens(120, 20)}, title="A word and its products",
        symbols={"token": ["cycle", "swap"], "arrangement": names},
    )  # fmt: skip


def copying():
    targets = torch.where(shares(64) > 0.7, tokens(64, 64), -1)
    return figures.tokens({"input": tokens(10, 64), "target": targets}, title="Copying")


def attention():
    titles = [f"layer {layer}, head {head}" for layer in (1, 2) for head in (1, 2, 3, 4)]
    figure = make_subplots(rows=2, cols=4, subplot_titles=titles, shared_yaxes=True)
    places = [f"{t}: key" for t in range(25)]
    for i in range(8):
        figure.add_heatmap(z=shares(25, 25, seed=i).numpy(), x=places, y=places,
                           coloraxis="coloraxis", row=i // 4 + 1, col=i % 4 + 1)  # fmt: skip
    figure.update_yaxes(autorange="reversed").update_xaxes(showticklabels=False)
    return figure.update_layout(height=560, title="Who reads (down) whom (across)",
                                coloraxis={"colorscale": "Viridis", "cmin": 0})  # fmt: skip


def confusion():
    names = list("abcdefgh")
    heat = go.Heatmap(z=shares(8, 8).numpy(), x=names, y=names, zmin=0, zmax=1, colorscale="Blues")
    figure = go.Figure(heat).update_layout(title="Answers at length 160", height=440)
    return figure.update_xaxes(title="answer").update_yaxes(title="target", autorange="reversed")


def tweaked():
    """A figure of ours and a notebook's own lines on it."""
    figure = lines(2).update_traces(mode="lines+markers")
    figure.add_vline(x=40, line={"color": figures.GREY, "dash": "dash"})
    return figure.add_vrect(x0=0, x1=24, fillcolor=figures.COLOURS[0], opacity=0.12, line_width=0)


def orbit():
    """A figure that a notebook builds with plotly alone."""
    figure, found = go.Figure(), looks.of(ARMS[:8])
    for i, name in enumerate(ARMS[:8]):
        figure.add_scatter(x=normal(40, seed=i).numpy(), y=normal(40, seed=i + 20).numpy(),
                           mode="markers", name=name, marker=found[name].points(4))  # fmt: skip
    figure.update_xaxes(title="S[0, 0]").update_yaxes(title="S[0, 1]")
    return figure.update_layout(title="First row of S", height=480)


def plain_bars():
    figure = go.Figure()
    for i in range(2):
        figure.add_bar(x=["a", "b", "c"], y=shares(3, seed=i).numpy(), name=f"arm {i}")
    return figure.update_xaxes(title="kind").update_yaxes(title="share")


def crowded():
    """Words that do not fit side by side."""
    names = [f"{arm}, {n} steps" for arm in ARMS[:6] for n in (128, 512)]
    figure = go.Figure(go.Scatter(x=names, y=shares(12).numpy(), mode="markers"))
    return figure.update_layout(title="Crowded").update_xaxes(title="arm").update_yaxes(title="r")


def plain_boxes():
    figure = go.Figure(layout={"boxmode": "group"})
    for i in range(2):
        figure.add_box(x=["a"] * 40 + ["b"] * 40, y=normal(80, seed=i).numpy(), name=f"seed {i}")
    return figure.update_xaxes(title="kind").update_yaxes(title="gate")


CASES = {
    "lines 2": lambda: lines(2), "lines 8": lambda: lines(8), "lines 12": lambda: lines(12),
    "losses 1": lambda: losses(1), "losses 6": lambda: losses(6), "losses 9": lambda: losses(9),
    "losses 14": lambda: losses(14), "accuracy 3": lambda: accuracy(3),
    "accuracy 9": lambda: accuracy(9), "accuracy 14": lambda: accuracy(14),
    "positions": lambda: accuracy(4, 160, x=None, x_title="position", solved=0.95),
    "scaling 5": lambda: scaling(5), "scaling 11": lambda: scaling(11),
    "recall 5": lambda: recall(5), "recall 14": lambda: recall(14),
    "strips 4": lambda: strips(4), "strips 14": lambda: strips(14), "groups": grouped_strips,
    "errors": errors, "ranges": ranges, "recovered": recovered, "slopes": slopes,
    "intervals": intervals, "bands": bands, "eigenvalues": eigenvalues, "transitions": transitions,
    "trajectories": trajectories, "heatmaps": heatmaps, "matrices": matrices,
    "word": word, "copying": copying,
    "attention": attention,
    "confusion": confusion, "tweaked": tweaked, "orbit": orbit, "bars": plain_bars,
    "boxes": plain_boxes, "crowded": crowded,
}  # fmt: skip
