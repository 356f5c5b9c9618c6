"""Several models of one architecture behind one set of parameters and one loss, or a single one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lab.arguments import refuse
from lab.seeding import global_states, set_global_states, stream
from lab.tasks import Batch, Task

Named = dict[str, Tensor]


class SideBySide:
    """Models, tasks and data streams behind one `parameters` and one `losses`.

    Args:
        models: moved to the device, and not back before `bring_back`.
        tasks: one each; they must share one `loss`.
        seeds: one each, for the data stream.
        device: where all of it is.

    Raises:
        ValueError: there is not one of each, a model is given twice, or has no parameters.

    Attributes:
        parameters: of the one model, or of all of them stacked, by name.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        tasks: Sequence[Task],
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        if not len(models) == len(tasks) == len(seeds) > 0:
            counts = f"{len(models)} models, {len(tasks)} tasks and {len(seeds)} seeds"
            raise ValueError(f"{counts}: there must be one of each, and at least one")
        if len(set(map(id, models))) < len(models):
            raise ValueError(f"one of the {len(models)} models is given twice: build one a seed")
        self.homes = [device_of(model, "fit") for model in models]
        self.models, self.tasks, self.device = [m.to(device) for m in models], tasks, device
        self.generators = [stream(seed, "data") for seed in seeds]
        self._stacked: Named = {}
        if len(models) == 1:
            self.parameters: Named = dict(models[0].named_parameters())
        else:
            self.parameters, self._stacked = torch.func.stack_module_state(list(self.models))

    @property
    def buffers(self) -> Named:
        """As `parameters`; what a model puts in the place of a buffer is one from then on."""
        if len(self.models) > 1:
            return self._stacked
        return dict(self.models[0].named_buffers())

    def losses(self, batch: int, length: int) -> Tensor:
        """Float["models"]: the loss of each on a batch of its own; errors as `evaluate`."""
        return self.evaluate(self.draw(batch, length))

    def draw(self, batch: int, length: int) -> Batch:
        """The next examples of every model: of the one, or of all of them stacked."""
        batches = [
            to_device(task.sample(batch, length, generator), self.device)
            for task, generator in zip(self.tasks, self.generators, strict=True)
        ]
        if len(self.models) == 1:
            return batches[0]
        return Batch(*(torch.stack(parts) for parts in zip(*batches, strict=True)))

    def evaluate(self, examples: Batch) -> Tensor:
        """Float["models"]: the loss of each on its part of what `draw` has returned.

        Raises:
            ValueError: several models would have to draw random numbers at once.
        """
        if len(self.models) == 1:
            return self.tasks[0].loss(self.models[0], examples)[None]
        try:
            return self._joint(examples)
        except RuntimeError as error:
            if "randomness" not in str(error):
                raise
            name = type(self.models[0]).__name__
            raise ValueError(
                f"{name} draws random numbers as it runs, as Dropout does, and models trained side "
                "by side cannot each have their own: train one at a time, with fit"
            ) from None

    def function(self, parameters: Named, buffers: Named, examples: Batch) -> tuple[Tensor, Named]:
        """The losses Float["models"] of given parameters and buffers, and the buffers afterwards.

        Nothing of the models or of this object is read in their place, or changed.
        """
        loss = self.tasks[0].loss

        def one(parameters: Named, buffers: Named, examples: Batch) -> tuple[Tensor, Named]:
            state = {**parameters, **buffers}

            def model(*args: Any) -> Tensor:
                # What the model puts in the place of a buffer is in `state` afterwards.
                return torch.func.functional_call(self.models[0], state, args)

            return loss(model, examples), {name: state[name] for name in buffers}

        if len(self.models) > 1:
            return torch.vmap(one)(parameters, buffers, examples)
        value, after = one(parameters, buffers, examples)
        return value[None], after

    def _joint(self, examples: Batch) -> Tensor:
        """Float["models"]: under torch.vmap."""
        losses, buffers = self.function(self.parameters, self._stacked, examples)
        for name, after in buffers.items():
            if after.data_ptr() != self._stacked[name].data_ptr():
                self._stacked[name] = after.detach()
        return losses

    # --- gradients and updates -------------------------------------------------------------------

    def gradient_norms(self) -> Tensor:
        """Float["models"]: of all gradients of a model together."""
        rows = [grad.reshape(len(self.models), -1) for grad in self._gradients()]
        sizes = [row.abs() if row.is_complex() else row for row in rows]
        return torch.stack([size.square().sum(1) for size in sizes]).sum(0).sqrt()

    def shrink_gradients(self, longest: float, norms: Tensor) -> None:
        """Multiply the gradients of each model so that together they are not above `longest`."""
        if bool((norms <= longest).all()):
            return
        factors = (longest / norms).clamp(max=1.0)
        for gradient in self._gradients():
            gradient *= self._by_model(factors, gradient)

    def _gradients(self) -> list[Tensor]:
        """All that there are, ["models ..."] if there are several models."""
        return [p.grad for p in self.parameters.values() if p.grad is not None]

    def keep(self, tensors: Sequence[Tensor], before: Sequence[Tensor], good: Tensor) -> None:
        """Put back what the models that are not `good` had before."""
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(torch.where(self._by_model(good, tensor), tensor, old))

    def _by_model(self, values: Tensor, like: Tensor) -> Tensor:
        """One value per model, of the shape that broadcasts over its part of a stacked tensor."""
        return values[0] if len(self.models) == 1 else values.view(-1, *[1] * (like.ndim - 1))

    # --- what moves beside the parameters --------------------------------------------------------

    def surroundings(self) -> Named:
        """Buffers and random states, copied: all that evaluating the losses may change."""
        state = {f"buffer/{name}": buffer.clone() for name, buffer in self.buffers.items()}
        state |= {f"generator/{i}": g.get_state() for i, g in enumerate(self.generators)}
        return state | {f"global/{k}": s for k, s in global_states(self.device).items()}

    @torch.no_grad()
    def put_back(self, state: Named) -> None:
        """Put back what `surroundings` gave."""
        for i, generator in enumerate(self.generators):
            generator.set_state(state[f"generator/{i}"])
        set_global_states(_under("global", state), self.device)
        self._set_buffers(_under("buffer", state))

    @torch.no_grad()
    def keep_buffers(self, before: Named, good: Tensor) -> None:
        """Give the models that are not `good` the buffers back that they had before."""
        for name, old in _under("buffer", before).items():
            now = self.buffers[name]
            if now.shape == old.shape:
                self.keep([now], [old], good)

    def _set_buffers(self, values: Named) -> None:
        if len(self.models) == 1:
            for name, value in values.items():
                _set_buffer(self.models[0], name, value.to(self.device))
        else:
            self._stacked |= {name: value.to(self.device) for name, value in values.items()}

    # --- the end ---------------------------------------------------------------------------------

    def bring_back(self) -> None:
        """Move the models to where they were before."""
        for model, home in zip(self.models, self.homes, strict=True):
            model.to(home)

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy stacked parameters and buffers into their models."""
        if len(self.models) > 1:
            for i, model in enumerate(self.models):
                for name, parameter in model.named_parameters():
                    parameter.copy_(self.parameters[name][i])
                for name, buffer in self._stacked.items():
                    _set_buffer(model, name, buffer[i])


def device_of(model: nn.Module, where: str) -> torch.device:
    """Where the parameters of a model are.

    Raises:
        ValueError: it has none.
    """
    first = next(model.parameters(), None)
    if first is None:
        refuse(where, "the model", type(model).__name__, "one with parameters")
    return first.device


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The same examples there."""
    return Batch(*(part.to(device) for part in batch))


def _under(kind: str, state: Named) -> Named:
    """The part of a state whose names start with `kind` and a slash, without them."""
    start = f"{kind}/"
    return {n.removeprefix(start): value for n, value in state.items() if n.startswith(start)}


def _set_buffer(model: nn.Module, name: str, value: Tensor) -> None:
    """Give a buffer a value, in its own memory if it fits there."""
    owner, _, last = name.rpartition(".")
    buffers = model.get_submodule(owner)._buffers
    now = buffers.get(last)
    if now is None or now.shape != value.shape or now.dtype != value.dtype:
        buffers[last] = value.clone()
    elif not torch.equal(now, value):  # one that never changes may be a view, not to be written to
        now.copy_(value)


def pick_device(device: str) -> torch.device:
    """The device by that name; "auto" is cuda where there is one, else cpu.

    Raises:
        ValueError: there is no such device.
    """
    has_cuda = torch.cuda.is_available()
    if device == "auto":
        return torch.device("cuda" if has_cuda else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        refuse("fit", "device", device, "auto, cpu, cuda or another device of torch")
    if found.type == "cuda" and not has_cuda:
        refuse("fit", "device", str(device), "auto or cpu on this machine, which has no cuda")
    return found
