"""Sends folders to the Hugging Face Hub, as its own library does: HF_TOKEN, HF_ENDPOINT and HF_HOME count.

    for sent in send(folders, public=False): print(sent.url)

A repository that is not there is made, private unless it is said otherwise. What is there already is not sent again, so
that the same command resumes; all of a folder becomes visible in one commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from srft.env.errors import InfrastructureError, InputError
from srft.harness.push.folder import Folder


class HubError(InfrastructureError):
    """The Hub does not answer, or refuses."""


class Sent(NamedTuple):
    """Where a folder is now."""

    what: str
    repository: str
    url: str


def check_names(repositories: list[str]) -> None:
    """Raises InputError for what cannot be a repository's name, or is given twice."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    for place, name in enumerate(repositories):
        if name in repositories[:place]:
            raise InputError(f"{name}: is named twice; each part has a repository of its own")
        if name.count("/") != 1:
            raise InputError(f"{name}: not a repository of the Hub; give OWNER/NAME")
        try:
            validate_repo_id(name)
        except HFValidationError as error:
            raise InputError(f"{name}: not a repository of the Hub ({error}); give OWNER/NAME") from None


def send(folders: list[Folder], *, public: bool) -> Iterator[Sent]:
    """Raises InputError, HubError."""
    from huggingface_hub import HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set, so nothing can be sent; unset it, or look at the folders with --plan")
    if get_token() is None:
        raise InputError("no key for the Hub; set HF_TOKEN to one with write access, or run `hf auth login`")
    api = HfApi(library_name="srft")
    for folder in folders:
        _refuse_public(api, folder, public=public)
    for folder in folders:
        yield _sent(api, folder, public=public)


def _refuse_public(api: Any, folder: Folder, *, public: bool) -> None:
    """Raises InputError where what would be private would be seen by all."""
    from huggingface_hub.utils import RepositoryNotFoundError

    if public:
        return
    try:
        known = _told(folder, lambda: api.repo_info(folder.repository, repo_type=folder.kind))
    except RepositoryNotFoundError:
        return
    if known.private is False:
        raise InputError(f"{folder.repository}: is public on the Hub; give --public to push there, or another name")


def _sent(api: Any, folder: Folder, *, public: bool) -> Sent:
    def work() -> Sent:
        api.create_repo(folder.repository, repo_type=folder.kind, private=not public, exist_ok=True)
        api.upload_folder(
            folder_path=folder.path,
            repo_id=folder.repository,
            repo_type=folder.kind,
            commit_message=f"srft push --{folder.what}",
        )
        prefix = "" if folder.kind == "model" else "datasets/"
        return Sent(folder.what, folder.repository, f"{api.endpoint}/{prefix}{folder.repository}")

    return _told(folder, work)


def _told(folder: Folder, work: Any) -> Any:
    """What the work gives. Raises HubError in one sentence; RepositoryNotFoundError as it is."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, RepositoryNotFoundError

    try:
        return work()
    except RepositoryNotFoundError:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        remedy = (
            "set HF_TOKEN to a key that may write there"
            if status in (401, 403)
            else "run the same command to resume; what has arrived is not sent again"
        )
        said = error.server_message or f"{status} {error.response.reason_phrase}"
        raise HubError(f"{folder.repository}: the Hub refuses ({said}); {remedy}") from error
    except (HTTPError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        raise HubError(
            f"{folder.repository}: cannot be sent ({' '.join(str(cause).split())[:300]}); check the network and "
            "HF_ENDPOINT and run the same command to resume; what has arrived is not sent again"
        ) from error
