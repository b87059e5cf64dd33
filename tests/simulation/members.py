"""Workers that form a group and share out partitions, as a group's coordinator sees them.

A member is heard of while its process runs, in the background; it agrees to who is there when it takes part. Partition 0
is that of the first by name among those that have agreed. Who is not heard of for the time of a session, or does not
take part for a minute, is out, and finds out when it next takes part.
"""

from connectors.kafka.client import SESSION_S, SILENT_S, LogError

POLL_S = 0.01  # how much of a wait passes: others run meanwhile


class Group:
    """What the coordinator knows."""

    def __init__(self, world):
        self._world = world
        self._members = []
        self._generation = 0

    def join(self, member):
        """Take a member in; all have to agree anew."""
        self._members.append(member)
        member.heard = member.asked = self._world.clock.now
        self._generation += 1

    def leave(self, member):
        """Let a member go."""
        if member in self._members:
            self._members.remove(member)
            self._generation += 1

    def share(self, member):
        """Return what is a member's by what was last agreed; None if it was not there."""
        now = self._world.clock.now
        for other in self._members:
            if not (other.process.dead or other.process.over or other.process.stopped):
                other.heard = now
        for other in list(self._members):
            if now - other.heard > SESSION_S or now - other.asked > SILENT_S:
                self._world.log(f"*** member {other.process.name} is out")
                self.leave(other)
        if member not in self._members:
            raise LogError("fenced", "the group has gone on without this member")
        member.asked, member.agreed = now, self._generation
        if all(other.agreed == self._generation for other in self._members):
            first = min(self._members, key=lambda other: other.name)
            for other in self._members:
                other.given = frozenset([0] if other is first else [])
        return member.given


class SimMember:
    """A `LogMember`."""

    def __init__(self, world, group, name):
        self._world, self._group, self.name, self.process = world, group, name, world.current
        self.heard = self.asked = 0.0
        self.agreed, self.given = -1, None
        group.join(self)

    def poll(self, timeout_s):
        """Take part."""
        world = self._world
        world.step("take part")
        world.clock.advance(min(timeout_s, POLL_S))
        if world.cluster.trouble("take_part") is not None:
            raise LogError("failed", "simulated: take part")
        return self.given if world.cluster.down else self._group.share(self)

    def close(self):
        """Leave."""
        self._world.step("leave")
        self._group.leave(self)
