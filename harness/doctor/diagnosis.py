"""Diagnoses a machine: what works, and what to do about the rest.

Reads the machine: engine, kernel, disks, GPU; asks an endpoint; loads a tokenizer.

    diagnosis = diagnose(Asked(run="runs/first", endpoint="http://localhost:8000/v1#teacher"))
    diagnosis.works                                         # whether runs can be collected, and what was asked is right
    [finding for finding in diagnosis.findings if finding.state == "error"]

One function a check, which gives one Finding. A use works where none of the findings that it needs is an error, and
containers only where one was seen to start.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from srft.agent.models.openai import OpenAIConfig
from srft.harness.doctor.containers import (
    base_image,
    check_base_image,
    check_container,
    check_local_sandbox,
    check_oci_programs,
    images_folder,
    open_engine,
    other_images,
)
from srft.harness.doctor.finding import Finding
from srft.harness.doctor.machine import check_cpus, check_disk, check_memory, check_run_folder, check_versions, places
from srft.harness.doctor.model import check_endpoint, check_gpu, check_tokenizer, check_vllm


class Use(msgspec.Struct, frozen=True):
    """Something that srft is used for. works: `None` where it could not be tried. stopped_by: the finding that stands
    in its way; remedy: that finding's."""

    name: str
    works: bool | None
    stopped_by: str | None = None
    remedy: str | None = None


class Diagnosis(msgspec.Struct, frozen=True):
    """All findings, and what follows from them."""

    works: bool
    uses: tuple[Use, ...]
    findings: tuple[Finding, ...]


class DoctorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `srft doctor --set` reads: the group of keys that collecting has too."""

    openai: OpenAIConfig = OpenAIConfig()


class Asked(NamedTuple):
    """What to look at besides the machine. `None` is not looked at.

    endpoint: as `--model` names it, http://HOST/v1#NAME. openai: how it is asked, the variable with its key above all.
    """

    run: str | None = None
    endpoint: str | None = None
    tokenizer: str | None = None
    openai: OpenAIConfig = OpenAIConfig()


IN_DOCKER = ("engine", "container", "disk: images of the engine")
ON_THIS_MACHINE = ("local sandbox", "disk: local images")
FILES = ("disk: runs", "run folder")


def diagnose(asked: Asked) -> Diagnosis:
    """Look at everything. Raises nothing for what is wrong with the machine: that is a finding."""
    findings = tuple(_findings(asked))
    uses = uses_of(findings)
    wrong = {finding.name for finding in findings if finding.state == "error"}
    collects = any(use.works for use in uses if use.name.startswith("collect"))
    return Diagnosis(collects and not wrong & {"endpoint", "tokenizer", "run folder"}, uses, findings)


def _findings(asked: Asked) -> Iterator[Finding]:
    yield check_versions()
    with open_engine() as (engine, finding):
        yield finding
        images = None
        if engine is not None:
            images = images_folder(engine)
            base = check_base_image(engine)
            yield base
            yield check_container((base_image(),) if base.state == "ok" else other_images(engine), base)
    yield check_local_sandbox()
    yield check_oci_programs()
    run = Path(asked.run or "runs")
    for what, place, remedy in places(run, images):
        yield check_disk(what, place, remedy)
    yield check_run_folder(run)
    yield check_memory()
    yield check_cpus()
    yield check_gpu()
    yield check_vllm()
    if asked.endpoint is not None:
        yield check_endpoint(asked.endpoint, asked.openai)
    if asked.tokenizer is not None:
        yield from check_tokenizer(asked.tokenizer)


def uses_of(findings: tuple[Finding, ...]) -> tuple[Use, ...]:
    """What works and what does not. That there is no GPU is no error of a machine, but training on one needs it.

    >>> uses_of((Finding("gpu", "warning", "none", "train on the CPU"),))[4]
    Use(name='train on a GPU', works=False, stopped_by='gpu', remedy='train on the CPU')
    """
    errors = {finding.name: finding for finding in findings if finding.state == "error"}
    no_gpu = next((finding for finding in findings if finding.name == "gpu" and finding.state != "ok"), None)

    def stop(*names: str) -> Finding | None:
        return next((errors[name] for name in names if name in errors), None)

    docker, local, files, endpoint = stop(*IN_DOCKER), stop(*ON_THIS_MACHINE), stop(*FILES), stop("endpoint")
    untried = next((finding for finding in findings if finding.name == "container" and finding.state != "ok"), None)
    training = stop("tokenizer", "disk: models") or files
    stops = {
        "collect in Docker": docker or files or endpoint,
        "collect locally": local or files or endpoint,
        "evaluate": (docker and local and docker) or files,
        "train on the CPU": training,
        "train on a GPU": no_gpu or training,
        "serve": stop("vllm", "disk: models"),
        "view": None,
    }
    unknown = {"collect in Docker": untried, "evaluate": untried if local else None}
    return tuple(_use(name, found, unknown.get(name)) for name, found in stops.items())


def _use(name: str, stop: Finding | None, untried: Finding | None) -> Use:
    """Whether it works. stop: an error in its way; untried: what is not known of what it needs."""
    if stop is not None:
        return Use(name, works=False, stopped_by=stop.name, remedy=stop.remedy)
    if untried is not None:
        return Use(name, works=None, stopped_by=untried.name, remedy=untried.remedy)
    return Use(name, works=True)
