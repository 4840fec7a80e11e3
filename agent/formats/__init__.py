"""Action formats: how a reply says what to do, and how the answer goes back. One file a format.

FORMATS["backtick"].parse(Reply(content="I look.\n```bash\nls\n```")).arguments     # {'command': 'ls'}
"""

from srft.agent.formats.backtick import BacktickFormat
from srft.agent.formats.contract import ActionFormat, FormatError
from srft.agent.formats.json_calls import JsonFormat
from srft.agent.formats.native import NativeFormat
from srft.agent.formats.xml import XmlFormat

__all__ = ["FORMATS", "ActionFormat", "FormatError"]

FORMATS: dict[str, ActionFormat] = {
    "backtick": BacktickFormat(),
    "xml": XmlFormat(),
    "json": JsonFormat(),
    "native": NativeFormat(),
}
"""The formats by the names that configurations give them."""
