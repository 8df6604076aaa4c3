"""EVT3 a second time: read word by word, from the format's table."""

from __future__ import annotations


class Oracle:
    """The table of the format, one word at a time, with None for what is not known yet."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.wraps = 0
        self.forget()

    def forget(self) -> None:
        self.high = self.low = self.y = self.vector_x = self.vector_p = None

    def decode(self, words: list[int]) -> list[tuple[int, int, bool, int]]:  # noqa: C901  # a branch for each of a list
        events = []

        def put(x: int, p: int) -> None:
            if x < self.width and self.y < self.height:
                time = (self.wraps << 24) + (self.high << 12) + self.low
                events.append((x, self.y, bool(p), time))

        for word in words:
            kind, payload = divmod(word, 1 << 12)
            match kind:
                case 0b0000:
                    if self.low is not None:
                        self.y = payload % 2048
                case 0b0010:
                    if self.y is not None:
                        put(payload % 2048, payload // 2048)
                case 0b0011:
                    self.vector_x, self.vector_p = payload % 2048, payload // 2048
                case 0b0100 | 0b0101:
                    if self.y is None or self.vector_x is None:
                        continue
                    size = {0b0100: 12, 0b0101: 8}[kind]
                    for bit, flag in enumerate(reversed(f"{payload:012b}"[-size:])):
                        if flag == "1":
                            put(self.vector_x + bit, self.vector_p)
                    self.vector_x += size
                case 0b0110:
                    if self.high is not None:
                        self.low = payload
                case 0b1000:
                    if self.high is not None:
                        if self.high - payload > 10:
                            self.wraps += 1
                        elif payload - self.high > 4085:
                            self.wraps -= 1
                        if self.low is not None and payload != self.high:
                            self.low = 0
                    self.high = payload
        return events
