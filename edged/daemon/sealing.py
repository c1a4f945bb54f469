"""Datagrams under the mesh's key (SPEC "Gossip datagrams", reliability §2.11).

Decides what of a stranger's bytes is a datagram of this mesh, and that each is taken once. Refuses to know what is in
it. Each life of a node seals with a key of its own, made from the mesh's key, its name and 16 random bytes: so a
counter may be the nonce, which never repeats under one key. Random nonces under one shared key were the
alternative, and would need a new mesh key after some billions of datagrams.
"""

import os
import struct
from collections import Counter, OrderedDict
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edged_protocol.ids import valid_name

VERSION = 1
WINDOW = 1024
"""Datagrams of one life that may overtake each other; an older one is refused."""

MAX_LIVES = 4096
"""Lives whose counters are remembered. One that was pushed out could be replayed: a mesh has a quarter of that."""

MAX_DATAGRAM = 1_400
HEAD = struct.Struct(">BB16sQ")
"""Version, length of the sender's name, its life's nonce, its counter; the name and the sealed payload follow."""


class Opened(NamedTuple):
    """A datagram that is what it says."""

    sender: str
    payload: bytes


class _Life:
    """One life of a sender, under one of the mesh's keys."""

    def __init__(self, key: ChaCha20Poly1305) -> None:
        self.key = key
        self.highest = 0
        self.seen = 0

    def take(self, counter: int) -> bool:
        """Whether it comes for the first time, as far as the window goes back."""
        ahead = counter - self.highest
        if ahead > 0:
            self.seen = (self.seen << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self.highest = counter
            return True
        bit = 1 << -ahead
        if -ahead >= WINDOW or self.seen & bit:
            return False
        self.seen |= bit
        return True


class Sealer:
    """`seal` what this node sends, `open` what comes. `keys` are 32 bytes each: the first seals, all open."""

    def __init__(self, mesh: str, node: str, keys: list[bytes]) -> None:
        self._mesh = mesh
        self._keys = keys
        self._name = node.encode()
        self._nonce = os.urandom(16)
        self._own = _derived(keys[0], self._name, self._nonce)
        self._counter = 0
        self._lives: OrderedDict[bytes, _Life] = OrderedDict()
        self.refused: Counter[str] = Counter()
        """How many were refused, by why: `malformed`, `wrong_key`, `replayed`, `own`."""

    def seal(self, payload: bytes) -> bytes:
        """The datagram."""
        self._counter += 1
        head = HEAD.pack(VERSION, len(self._name), self._nonce, self._counter) + self._name
        sealed = self._own.encrypt(_nonce(self._counter), payload, self._associated(head))
        return head + sealed

    def open(self, datagram: bytes) -> Opened | None:
        """The payload and whose it is; None, and counted, for what is none of ours."""
        try:
            version, length, nonce, counter = HEAD.unpack_from(datagram)
            name = datagram[HEAD.size : HEAD.size + length]
            sender = name.decode("ascii")
        except (struct.error, UnicodeDecodeError):
            return self._refuse("malformed")
        start = HEAD.size + length
        if version != VERSION or len(datagram) > MAX_DATAGRAM or not valid_name(sender):
            return self._refuse("malformed")
        if nonce == self._nonce:
            return self._refuse("own")
        return self._unsealed(sender, nonce + name, counter, datagram[:start], datagram[start:])

    def _unsealed(
        self, sender: str, who: bytes, counter: int, head: bytes, sealed: bytes
    ) -> Opened | None:
        known = self._lives.get(who)
        lives = [known] if known else [_Life(_derived(key, who[16:], who[:16])) for key in self._keys]
        for life in lives:
            try:
                payload = life.key.decrypt(_nonce(counter), sealed, self._associated(head))
            except InvalidTag:
                continue
            if not life.take(counter):
                return self._refuse("replayed")
            self._remember(who, life)
            return Opened(sender, payload)
        return self._refuse("wrong_key")

    def _remember(self, who: bytes, life: _Life) -> None:
        """Only what a key has opened is remembered: a stranger cannot push anybody out."""
        self._lives[who] = life
        self._lives.move_to_end(who)
        if len(self._lives) > MAX_LIVES:
            self._lives.popitem(last=False)

    def _refuse(self, why: str) -> Opened | None:
        self.refused[why] += 1
        return None

    def _associated(self, head: bytes) -> bytes:
        return head + self._mesh.encode()


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")


def _derived(key: bytes, name: bytes, nonce: bytes) -> ChaCha20Poly1305:
    hkdf = HKDF(SHA256(), length=32, salt=nonce, info=b"edged gossip 1 " + name)
    return ChaCha20Poly1305(hkdf.derive(key))
