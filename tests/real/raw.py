"""A client of MQTT 3.1.1 with a persistent session that keeps its half of every handshake over any number of broken
connections, as the standard asks [MQTT-4.4.0-1]: what it resends, and what it takes for new, is exact."""

import socket
import struct

PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 3, 4, 5, 6, 7
PATIENCE = 20


class Gone(Exception):
    """The connection is over."""


class Silent(Exception):
    """Nothing came for as long as the socket waits."""


def packet(first, body):
    length, head = len(body), bytearray([first])
    while True:
        length, low = divmod(length, 128)
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def text(words):
    data = words.encode()
    return struct.pack(">H", len(data)) + data


class Client:
    def __init__(self, port, ident, window=20, clean=False):
        self.port, self.ident, self.window, self.clean = port, ident, window, clean
        self.socket, self.buffer = None, bytearray()
        # By packet identifier: what was sent and is not acknowledged, in the order of sending.
        self.sent = {}
        self.released = set()  # QoS 2: PUBREC has come, PUBCOMP has not
        self.acked = []  # (topic, payload, qos): the broker has taken these over
        self.received = []  # (topic, payload, qos, retain)
        self.unreleased = set()  # QoS 2: PUBLISH has come, PUBREL has not
        self.granted, self.present, self.pongs = 0, None, 0
        self.next_id = 1

    def connect(self):
        """Returns when the CONNACK is there; then sends once more what is not acknowledged."""
        self.buffer.clear()
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = b"\x02" if self.clean else b"\x00"
        self._send(packet(0x10, text("MQTT") + b"\x04" + flags + b"\x00\x00" + text(self.ident)))
        kind, body = self._next()
        assert kind == 0x20 and body[1] == 0, (kind, body)
        self.present = bool(body[0])
        again = [packet(0x62, struct.pack(">H", mid)) if mid in self.released else self._publish(mid, dup=True)
                 for mid in self.sent]
        if again:
            self._send(b"".join(again))
        return self

    def subscribe(self, filter_, qos):
        self._send(packet(0x82, b"\x00\x01" + text(filter_) + bytes([qos])))
        before = self.granted
        while self.granted == before:
            self.step()
        return self

    def publish(self, topic, payload, qos, retain=False):
        """Waits for room in the window first."""
        while len(self.sent) >= self.window:
            self.step()
        if qos == 0:
            self._send(packet(0x30 | retain, text(topic) + payload.encode()))
            return
        while self.next_id in self.sent:
            self.next_id = self.next_id % 65535 + 1
        mid, self.next_id = self.next_id, self.next_id % 65535 + 1
        self.sent[mid] = (topic, payload, qos, retain)
        self._send(self._publish(mid, dup=False))

    def _publish(self, mid, dup):
        topic, payload, qos, retain = self.sent[mid]
        first = 0x30 | dup << 3 | qos << 1 | retain
        return packet(first, text(topic) + struct.pack(">H", mid) + payload.encode())

    def flush(self):
        """Waits until everything is acknowledged."""
        while self.sent:
            self.step()

    def ping(self):
        """Waits until everything sent so far has been looked at."""
        before = self.pongs
        self._send(b"\xc0\x00")
        while self.pongs == before:
            self.step()

    def step(self):
        """Takes one packet and answers it."""
        kind, body = self._next()
        mid = struct.unpack(">H", body[:2])[0] if len(body) >= 2 else 0
        match kind >> 4:
            case 3:
                self._message(kind, body)
            case 4:
                self._over(mid)
            case 5:
                # The broker owns it from here on [MQTT-4.3.3].
                if mid in self.sent and mid not in self.released:
                    self.released.add(mid)
                    self.acked.append(self.sent[mid][:3])
                self._send(packet(0x62, body[:2]))
            case 6:
                self.unreleased.discard(mid)
                self._send(packet(0x70, body[:2]))
            case 7:
                self._over(mid)
            case 9:
                self.granted += 1
            case 13:
                self.pongs += 1

    def _over(self, mid):
        message = self.sent.pop(mid, None)
        if message and mid not in self.released:
            self.acked.append(message[:3])
        self.released.discard(mid)

    def _message(self, kind, body):
        qos, retain = kind >> 1 & 3, bool(kind & 1)
        length = struct.unpack(">H", body[:2])[0]
        topic, rest = body[2:2 + length].decode(), body[2 + length:]
        mid, payload = (struct.unpack(">H", rest[:2])[0], rest[2:]) if qos else (0, rest)
        if qos < 2 or mid not in self.unreleased:
            self.received.append((topic, payload.decode(), qos, retain))
        if qos == 2:
            self.unreleased.add(mid)
        if qos:
            self._send(packet(0x40 if qos == 1 else 0x50, struct.pack(">H", mid)))

    def _send(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Gone(error) from error

    def _next(self):
        while True:
            found = self._parse()
            if found:
                return found
            try:
                data = self.socket.recv(65536)
            except TimeoutError as error:
                raise Silent(f"{self.ident}: nothing came for {self.socket.gettimeout()} s") from error
            except OSError as error:
                raise Gone(error) from error
            if not data:
                raise Gone("closed")
            self.buffer += data

    def _parse(self):
        length, at = 0, 1
        while at < len(self.buffer):
            byte = self.buffer[at]
            length |= (byte & 0x7F) << 7 * (at - 1)
            at += 1
            if not byte & 0x80:
                if len(self.buffer) < at + length:
                    return None
                kind, body = self.buffer[0], bytes(self.buffer[at:at + length])
                del self.buffer[:at + length]
                return kind, body
        return None

    def close(self):
        if self.socket:
            self.socket.close()
            self.socket = None

    def disconnect(self):
        self._send(b"\xe0\x00")
        self.close()
