"How annotations are checked while the tests run."
from importlib.util import find_spec
from pathlib import Path

from beartype import BeartypeConf, beartype
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

CONF = BeartypeConf(is_pep484_tower=True)  # an int is a float, as annotations mean it
checked = beartype(conf=CONF)


def install(package: str) -> None:
    "Check whatever a package's functions are given and give; shapes where a module speaks of shapes, which is slower."
    root = Path(find_spec(package).submodule_search_locations[0])
    named = {f: ".".join((package, *f.relative_to(root).with_suffix("").parts)) for f in root.rglob("*.py")}
    shaped = [name for f, name in named.items() if "from jaxtyping" in f.read_text()]
    beartype_package(package, conf=CONF)
    install_import_hook(shaped, "checked.checked")
