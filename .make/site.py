"""What `mkdocs build` (`make docs`) needs to make a site of Markdown that GitHub shows as it is.

A hook of mkdocs: it takes in the pages that lie outside of `docs/`, leads links to where things are
on the site, and numbers headings' anchors as GitHub does. Files that are no page (code, a JSON) are
linked in the repository that package.xml names, and copied into the site where it names none.
"""

import posixpath
import re
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "training/README.md": "training/README.md",
    "training/results/sim_tiny/README.md": "training/results/sim_tiny/README.md",
    "test/data/golden/README.md": "test/golden.md",
}
"""Page outside of docs/ -> its place on the site."""
INSIDE = {site: repository for repository, site in OUTSIDE.items()}
LINK = re.compile(r"(\]\()([^)\s#]*)(#[^)\s]*)?(\))")
ELSEWHERE = re.compile(r"[a-z]+:|//")
CODE = re.compile(r"^( *```.*?^ *```|`[^`\n]+`)", re.M | re.S)
SPAN = re.compile(r"`[^`\n]*`")
CELLS = re.compile(r"^\|.*$", re.M)


def place(path: str) -> str | None:
    """Where a file of the repository is on the site; None: nowhere, it is no page of it."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def origin(site_path: str) -> str:
    """The file of the repository that a page of the site was made of."""
    return INSIDE.get(site_path, f"docs/{site_path}")


def repository() -> str:
    """The address of the repository, of package.xml; empty: it has none yet."""
    for url in ElementTree.parse(ROOT / "package.xml").getroot().iter("url"):
        if url.get("type") == "repository":
            return (url.text or "").strip().rstrip("/")
    return ""


def copied(path: str) -> str:
    """Where a file that is no page is copied to; text, so that browsers show it."""
    return f"files/{path}" if path.endswith((".png", ".jpg", ".svg")) else f"files/{path}.txt"


def led(markdown: str, page: str, wanted: dict[str, str]) -> str:
    """A page's text with its links as they must be on the site.

    Args:
        markdown: as it is in the repository.
        page: its place on the site.
        wanted: is told what must be copied: place on the site -> file of the repository.

    Raises:
        FileNotFoundError: a link leads to nothing.
    """
    here = origin(page)

    def lead(link: re.Match[str]) -> str:
        target, anchor = link[2], link[3] or ""
        if not target or ELSEWHERE.match(target):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{here} links to {target}, and there is no {path}")
        there = place(path)
        if there is None and (home := repository()):
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            return f"{link[1]}{home}/{kind}/main/{path}{anchor}{link[4]}"
        if there is None:
            there = copied(path)
            wanted[there] = path
        start = posixpath.dirname(page) or "."
        return f"{link[1]}{posixpath.relpath(there, start)}{anchor}{link[4]}"

    pieces = CODE.split(markdown)
    return "".join(
        piece if number % 2 else LINK.sub(lead, piece) for number, piece in enumerate(pieces)
    )


def unescaped(markdown: str) -> str:
    """Tables whose code has pipes as Python-Markdown wants them: GitHub wants a backslash."""
    return CELLS.sub(
        lambda row: SPAN.sub(lambda code: code[0].replace("\\|", "|"), row[0]), markdown
    )


def on_config(config):
    """Anchors as GitHub makes them; the address of the source, where there is one."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    config.repo_url = repository() or None
    return config


def on_files(files, config):
    """Take in the pages from outside, and what they and the others link to."""
    from mkdocs.structure.files import File

    for site_path, path in INSIDE.items():
        files.append(File.generated(config, site_path, abs_src_path=str(ROOT / path)))
    wanted: dict[str, str] = {}
    for file in files.documentation_pages():
        led(file.content_string, file.src_uri, wanted)
    for site_path, path in wanted.items():
        files.append(File.generated(config, site_path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Lead the links of a page, and mend its tables; the first page has no siblings to list."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    return unescaped(led(markdown, page.file.src_uri, {}))
