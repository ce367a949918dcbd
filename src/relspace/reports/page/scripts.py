"""The page's JavaScript modules joined into one script, without a bundler."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_FOLDER = "scripts"
_MAIN = "main"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.mjs";\n', re.MULTILINE)
_EXPORT_LIST = re.compile(r"^export \{[^}]*\};\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class)\b)", re.MULTILINE)


@cache
def page_script() -> str:
    """Join the modules, each after those that it imports, into one without imports.

    Modules import by name and don't rename, and no two define the same name, so that all of them
    can share one scope; a browser refuses a script in which that is not so. The result is safe
    inside a ``script`` element.
    """
    texts: dict[str, str] = {}
    _collect(_MAIN, texts)
    joined = "\n".join(
        _EXPORT.sub("", _EXPORT_LIST.sub("", _IMPORT.sub("", text))).strip() + "\n"
        for text in texts.values()
    )
    return joined.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _collect(name: str, texts: dict[str, str]) -> None:
    if name in texts:
        return
    folder = resources.files("relspace.reports.page") / _FOLDER
    text = (folder / f"{name}.mjs").read_text(encoding="utf-8")
    for needed in _IMPORT.findall(text):
        _collect(needed, texts)
    texts[name] = text
