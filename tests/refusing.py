"What a user hears when a call is refused."
import pytest

from symbolic_gn.core.errors import UserError


def refused(call, *words, **options) -> str:
    "The one line of the UserError with which a call is refused."
    with pytest.raises(UserError) as caught:
        call(*words, **options)
    said = str(caught.value)
    assert said and "\n" not in said
    return said
