"""Devices: paho clients that stay inside their namespace, reconnect for ever and remember what they saw."""

import threading
import time

import paho.mqtt.client as paho


class Device:
    """A client with a fixed id and, unless told otherwise, a persistent session."""

    def __init__(self, lab, host, ident, port=1883, subscribe=(), persistent=True, qos=2):
        self.seen = []  # (topic, payload, qos, retain)
        self.acked = set()
        self.lock = threading.Lock()
        self.subscribed = threading.Event()
        self.waiting = {}
        self.filters = [(f, qos) for f in subscribe]
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=ident, clean_session=not persistent)
        self.client.max_inflight_messages_set(100)
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(0.2, 1)
        self.client.on_connect = self._connected
        self.client.on_message = self._message
        self.client.on_publish = self._published
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        lab.call(host, self._start, port)

    def _start(self, port):
        self.client.connect_async("127.0.0.1", port, keepalive=10)
        self.client.loop_start()

    def _connected(self, client, _data, _flags, reason, _properties):
        if self.filters and not reason.is_failure:
            client.subscribe(self.filters)

    def _message(self, _client, _data, message):
        with self.lock:
            self.seen.append((message.topic, message.payload.decode(), message.qos, message.retain))

    def _published(self, _client, _data, mid, _reason, _properties):
        with self.lock:
            payload = self.waiting.pop(mid, None)
            if payload is None:
                self.acked.add(("mid", mid))
            else:
                self.acked.add(payload)

    def publish(self, topic, payload, qos=0, retain=False):
        """Counts as acknowledged once its PUBACK or PUBCOMP has come: see `acked`."""
        info = self.client.publish(topic, payload, qos=qos, retain=retain)
        with self.lock:
            if ("mid", info.mid) in self.acked:
                self.acked.discard(("mid", info.mid))
                self.acked.add((topic, payload))
            else:
                self.waiting[info.mid] = (topic, payload)

    def unacknowledged(self):
        with self.lock:
            return len(self.waiting)

    def payloads(self, topic=None, qos=None):
        with self.lock:
            return [p for t, p, q, _ in self.seen if (topic is None or t == topic) and (qos is None or q == qos)]

    def ready(self, seconds=10):
        if not self.subscribed.wait(seconds):
            raise AssertionError("no SUBACK")
        return self

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def vanish(self):
        """Cuts the connection without a word."""
        self.client._sock_close()
        self.client.loop_stop()


def settle(devices, seconds):
    """Waits until nobody has seen anything new for two seconds."""
    deadline = time.monotonic() + seconds
    last, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        count = sum(len(d.seen) for d in devices)
        if count != last:
            last, since = count, time.monotonic()
        elif time.monotonic() - since > 2:
            return
        time.sleep(0.1)
