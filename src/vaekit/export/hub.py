"""`push` and `pull`: models on the Hugging Face Hub, as safetensors with a card. Nothing that is pulled is executed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vaekit.errors import InputError
from vaekit.export.card import card, known_figures, measured
from vaekit.export.export import write_files
from vaekit.export.table import need_packages
from vaekit.export.weights import MODEL, Weights
from vaekit.runs import check_new
from vaekit.storage import load_model
from vaekit.trained import load

CARD = "README.md"


def push(path: str | os.PathLike[str], name: str, private: bool = False, with_figures: bool = True) -> dict[str, Any]:
    """Share a trained model on the Hub: weights, a card and figures; the token is huggingface_hub's own.

    Args:
        path: a run folder, of which the card takes figures and numbers, or a model file.
        name: ``owner/model``; made if need be.
        private: whether a repository that is made is private.
        with_figures: whether the run's figures, which show images of its data, go with it.

    Returns:
        ``url`` and ``files``.

    Raises:
        InputError: when there is no model, the package is missing, or the Hub refuses or cannot be reached.
    """
    need_packages(("huggingface_hub",), "hub", "push")
    trained, folder = load(path), Path(path)
    figures = known_figures(folder) if with_figures else {}
    text = card(trained, name, measured(folder), list(figures))
    files: dict[str, bytes | Path] = {**Weights().export(trained).files, CARD: text.encode(), **figures}
    from huggingface_hub import CommitOperationAdd

    api = _api()
    with _said(name, "pushed"):
        url = api.create_repo(name, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(file, content) for file, content in files.items()]
        api.create_commit(url.repo_id, operations, commit_message="Share a model of vaekit")
    return {"url": str(url), "files": sorted(files)}


def pull(name: str, out: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Fetch a model that was pushed; only its weights and its card are read, and no code is run.

    Args:
        name: ``owner/model``.
        out: the folder to make.
        revision: a branch, tag or commit; None for the newest.

    Returns:
        The model file, for `vaekit.load` and every verb that takes a model.

    Raises:
        InputError: when there is no such model, it is none of vaekit, or the Hub cannot be reached; nothing was written.
    """
    need_packages(("huggingface_hub",), "hub", "pull")
    folder = Path(out)
    check_new(folder)
    from huggingface_hub.errors import RemoteEntryNotFoundError

    api = _api()
    with tempfile.TemporaryDirectory() as place:

        def fetch(file: str) -> Path:
            return Path(api.hf_hub_download(name, file, revision=found.sha, cache_dir=place))

        with _said(name, "pulled"):
            found = api.model_info(name, revision=revision)
            weights = fetch(MODEL)
        try:
            load_model(weights)
        except InputError:
            raise InputError(f"{name!r}: its {MODEL} is no model of this version of vaekit; choose another") from None
        files = {MODEL: weights.read_bytes()}
        with _said(name, "pulled"), suppress(RemoteEntryNotFoundError):  # a model needs no card
            files[CARD] = fetch(CARD).read_bytes()
    write_files(folder, files)
    return folder / MODEL


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="vaekit")


@contextmanager
def _said(name: str, done: str) -> Iterator[None]:
    """Say in one sentence what the Hub, or the way to it, refused."""
    from huggingface_hub import errors
    from huggingface_hub.utils.logging import set_verbosity_error
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    set_verbosity_error()
    try:
        yield
    except errors.HFValidationError:
        raise InputError(f"{name!r} is no name on the Hub; write owner/model") from None
    except errors.RemoteEntryNotFoundError:
        raise InputError(f"{name!r}: holds no {MODEL}, so it is no model of vaekit; choose another") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{name!r}: has no such revision; leave --revision out, or give another") from None
    except errors.GatedRepoError:
        raise InputError(f"{name!r}: asks for consent on its page before it is {done}; give it there") from None
    except errors.RepositoryNotFoundError:
        raise InputError(
            f"{name!r} is not on the Hub, or not for you; check the name, or log in with hf auth login"
        ) from None
    except errors.HfHubHTTPError as error:
        code = getattr(getattr(error, "response", None), "status_code", None)
        if code in (401, 403):
            raise InputError(
                f"{name!r} cannot be {done}: the Hub wants a token that may do so; log in with hf auth login"
            ) from None
        raise InputError(f"{name!r} cannot be {done}: the Hub answered with error {code}; try again later") from None
    except Exception as error:  # what the way there raises differs with the version of its HTTP library
        where = os.environ.get("HF_ENDPOINT", "huggingface.co")
        raise InputError(
            f"{name!r} cannot be {done}: {where} cannot be reached ({type(error).__name__}); check the connection"
        ) from None
