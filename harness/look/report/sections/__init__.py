"""What a report says, section by section, as text and tables: the page and report.md hold the same.

    sections(report)[0].title            # 'Resolved'

Cells are plain text, with charts and links that the renderers draw.
"""

from __future__ import annotations

from srft.harness.facts.records import Report
from srft.harness.look.report.sections.data import funnel_section, masks_section, quality_section, verdicts_section
from srft.harness.look.report.sections.models import (
    cost_section,
    drops_section,
    practice_section,
    serving_section,
    training_section,
)
from srft.harness.look.report.sections.outcomes import (
    arms_sections,
    endings_section,
    promotions_section,
    resolved_section,
)
from srft.harness.look.tables import Section

_PARTS = (
    resolved_section,
    arms_sections,
    promotions_section,
    practice_section,
    funnel_section,
    masks_section,
    verdicts_section,
    quality_section,
    endings_section,
    training_section,
    serving_section,
    cost_section,
    drops_section,
)


def sections(report: Report) -> list[Section]:
    """Those that there is something to say in."""
    return [section for part in _PARTS for section in part(report)]
