"""Attributes are replaced for a while, and put back whatever happens."""

from types import SimpleNamespace

import pytest

from lab.nn.attributes import replaced


def test_each_has_its_own_value_again_even_after_an_error():
    one, two = SimpleNamespace(noise="a"), SimpleNamespace(noise="b")
    seen = []

    def look_and_fail():
        with replaced([one, two], "noise", "c"):
            seen.extend([one.noise, two.noise])
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        look_and_fail()
    assert seen == ["c", "c"]
    assert (one.noise, two.noise) == ("a", "b")


def test_a_layer_without_the_attribute_leaves_the_others_as_they_were():
    one, other = SimpleNamespace(noise="a"), SimpleNamespace()
    with pytest.raises(AttributeError, match="noise"), replaced([one, other], "noise", "c"):
        pass
    assert one.noise == "a"
