"""How a reply says what to do: text blocks, XML calls, native tool calls."""
