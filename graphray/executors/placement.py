"""Placement: nodes that ask for resources, or for several workers at a time, and where they begin.

Part of the scheduling core, and like it without threads, processes or clocks. A node that asks for nothing never comes
here. One that does waits here once it is ready, until one machine (of a gang: one for each member) has what it asks for
free, and a worker idle:

    Job.push ── asking ──▶ Queue, waiting ──▶ Party, seated: a Member for each worker ──▶ units ──▶ Core
                                  Refit: have a worker that sees these accelerators, or a fresh one

What it was given is taken from the machine when the decision falls, for all members of a gang at once, and comes back
with the worker. So nobody holds one thing and waits for another, and there is no deadlock.

Equal requests of a run are a queue; the queues have their turns, and pass those whose turn it is where these do not
fit. One that has begun nothing for `PATIENCE` makes a *claim*: on the machine where least is missing (a gang: on all
that can hold a member) no other queue's node begins that would take of it, and a gang keeps the workers that become
idle, until it has what it needs. There is one claim at a time, and then it is the others' turn: so each gets through.
"""

from __future__ import annotations

from collections import deque
from itertools import count

from graphray.errors import ResourceError
from graphray.executors.protocol import USED_UP, Refit, Run, RunTogether
from graphray.executors.sites import Site

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from graphray.executors.core import Core
    from graphray.executors.job import Job, Unit
    from graphray.executors.protocol import Again, MachineFound, Supply, WorkerJoined, WorkerLost
    from graphray.graph.node import Node
    from graphray.graph.request import Request

    Ticket: TypeAlias = tuple[int, int, str]  # a member's rank, the size of its gang, and where that meets

PATIENCE = 0.5  # seconds that others may pass a queue
BUDGET = 0.05  # seconds of work in a unit, as elsewhere
FOREVER = float("inf")


class Queue:
    """Nodes of a run that are ready, but for the resources they ask for, which is the same for all.

    Attributes:
        turn: it comes after queues with lower numbers.
        since: when it last began one, or had nothing to begin.
    """

    __slots__ = ("job", "nodes", "request", "since", "turn")

    def __init__(self, job: Job, request: Request, turn: int, since: float) -> None:
        self.job = job
        self.request = request
        self.nodes: deque[Node] = deque()
        self.turn = turn
        self.since = since


class Member:
    """A worker's part in a call: what it was given, and what came of it.

    Attributes:
        accelerators: the names of those that it may use.
        present: its worker is the one that was wanted; else another is to take that one's place.
        unit: what it runs, once all members are present.
        over: it runs nothing any more.
    """

    __slots__ = ("accelerators", "over", "party", "present", "rank", "site", "unit", "value", "worker")

    def __init__(self, party: Party, rank: int, site: Site, worker: str, accelerators: tuple[str, ...]) -> None:
        self.party = party
        self.rank = rank
        self.site = site
        self.worker = worker
        self.accelerators = accelerators
        self.present = True
        self.unit: Unit | None = None
        self.over = False
        self.value: Any = None

    @property
    def ticket(self) -> Ticket | None:
        """What a member's process has to know of its gang; None for a call like any other."""
        size = self.party.request.gang
        return (self.rank, size, self.party.address) if size is not None else None


class Party:
    """Those who make one call: a gang, or a lone worker.

    Attributes:
        address: where the members of a gang find each other, once the engine has said so.
        inputs: the values from outside that the call needs.
        verdict: what ended a gang early: its first failure, and the unit of that member.
    """

    __slots__ = ("address", "inputs", "job", "members", "node", "request", "verdict")

    def __init__(self, job: Job, node: Node, request: Request) -> None:
        self.job = job
        self.node = node
        self.request = request
        self.members: list[Member] = []
        self.address = ""
        self.inputs: dict[Node, Any] = {}
        self.verdict: tuple[Unit, Again | WorkerLost | BaseException | None] | None = None


class Coming:
    """A worker that is to take the place of one that stepped back.

    Attributes:
        site: where.
        before: the name of the one that stepped back.
        member: for whom it comes; None: for anybody.
    """

    __slots__ = ("before", "member", "site")

    def __init__(self, site: Site, before: str, member: Member | None) -> None:
        self.site = site
        self.before = before
        self.member = member


class Placement:
    """What the machines have, who has some of it, and who waits for some.

    Args:
        core: the core whose part this is.
        fits: the engine understands `Refit`: a worker sees only the accelerators that it was started with.
        gangs: it can run several units that wait for each other.
    """

    def __init__(self, core: Core, fits: bool, gangs: bool) -> None:
        self.core = core
        self.fits = fits
        self.gangs = gangs
        self.inbox: list[tuple[Job, Node]] = []  # the jobs' `asking`: what has become ready since last time
        self.waiting: dict[tuple[Job, Request], Queue] = {}
        self.sites: dict[str, Site] = {}
        self.site_of: dict[str, Site] = {}  # by worker
        self.accelerators: dict[str, tuple[str, ...]] = {}  # by worker, of those that see some
        self.worn: dict[str, int] = {}  # workers that are not fit for everything, see `protocol.FRESH`
        self.fitted: list[str] = []  # idle workers that see accelerators: others' tasks are not to
        self.held: list[str] = []  # idle workers kept for the claim
        self.coming: dict[int, Coming] = {}  # by their place: workers that others have stepped back for
        self.seated: dict[str, Member] = {}  # by worker: members that wait for the rest of their party
        self.claim: Queue | None = None
        self.claimed: list[Site] = []
        self.short = False  # somebody lacks but a worker: nothing is to be given out ahead
        self.stale = False  # what is possible may have changed
        self._possible: dict[Request, bool | None] = {}
        self._turns = count(1)
        self._places = count(1)

    # ---- workers

    def joined(self, event: WorkerJoined) -> None:
        """A worker is there: for the member that it was wanted for, or for anybody."""
        worker = event.worker
        site = self.site_of[worker] = self._site(event.machine, event.resources)
        if event.accelerators:
            self.accelerators[worker] = event.accelerators
        if event.worn:
            self.worn[worker] = event.worn
        self.stale = True
        coming = self.coming.pop(event.place, None) if event.place is not None else None
        member = coming.member if coming is not None else None
        if member is not None:
            member.worker, member.present = worker, True
            self.seated[worker] = member
            self._start_if_complete(member.party)
        elif site.in_use(event.accelerators):  # it was wanted, and is not any more
            self._refit(worker, (), None)
        else:
            self.rest(worker)

    def found(self, event: MachineFound) -> None:
        """A machine is known before its workers have joined, or is gone."""
        self._site(event.machine, event.resources).announced = event.workers
        self.stale = True

    def _site(self, name: str, resources: Supply | None) -> Site:
        site = self.sites.get(name)
        if site is None:
            site = self.sites[name] = Site(name, resources)
        elif resources is not None:
            site.says(resources)
        return site

    def rest(self, worker: str) -> None:
        """A worker has nothing to do."""
        if self.fits and self.worn.get(worker) == USED_UP:
            self._refit(worker, self.accelerators.get(worker, ()), None, fresh=True)
        else:
            (self.fitted if worker in self.accelerators else self.core.idle).append(worker)

    def lost(self, worker: str) -> None:
        """A worker is gone."""
        for idle in (self.fitted, self.held):
            if worker in idle:
                idle.remove(worker)
        if worker not in self.site_of:  # it had died before another was asked for, of which nothing comes
            place = next((p for p, coming in reversed(self.coming.items()) if coming.before == worker), None)
            coming = self.coming.pop(place) if place is not None else None
            member = coming.member if coming is not None else None
        else:
            member = self.seated.pop(worker, None)
        self.forget(worker)
        if member is not None:
            self._dissolve(member.party)
        self.stale = True

    def forget(self, worker: str) -> None:
        """Nothing is to be known of a worker any more."""
        self.site_of.pop(worker, None)
        self.accelerators.pop(worker, None)
        self.worn.pop(worker, None)

    def left(self, member: Member) -> None:
        """A member's worker is through with its unit, or dead.

        What a gang has comes back from all of them together: as long as one is running, it may need the others'
        processes, and the first one's longest.
        """
        member.over = True
        members = member.party.members
        if not all([other.over for other in members]):
            return
        for other in reversed(members):
            other.site.give(other.party.request, other.accelerators)
            if other.worker in self.core.workers:
                self.rest(other.worker)

    def _refit(self, worker: str, accelerators: tuple[str, ...], member: Member | None, fresh: bool = False) -> None:
        self.core.workers.discard(worker)
        place = next(self._places)
        self.coming[place] = Coming(self.site_of[worker], worker, member)
        self.forget(worker)
        self.core._out.append(Refit(worker, accelerators, fresh, place))

    # ---- what is possible

    def workers_at(self) -> dict[Site, int]:
        """How many workers each machine has, or will have as far as is known."""
        there = dict.fromkeys(self.sites.values(), 0)
        for site in (*self.site_of.values(), *[coming.site for coming in self.coming.values()]):
            there[site] += 1
        return {site: max(n, site.announced) for site, n in there.items()}

    def possible(self, request: Request) -> bool | None:
        """Whether a request can ever be met; None: workers that are still starting may show."""
        if request not in self._possible:
            self._possible[request] = self._find_out(request)
        return self._possible[request]

    def _find_out(self, request: Request) -> bool | None:
        if request.size > 1 and not self.gangs:
            return False
        workers = self.workers_at()
        if sum([min(n, site.most(request)) for site, n in workers.items() if n]) >= request.size:
            return True
        return None if sum(workers.values()) < self.core.expected else False

    def admit(self, node: Node) -> None:
        """Nothing, if a node's request can be met.

        Raises:
            ResourceError: it cannot.
        """
        request = node._task.request
        if request is not None and self.possible(request) is False:
            raise self.refusal(node)

    def refusal(self, node: Node) -> ResourceError:
        """Why a node's request cannot be met, and what to do."""
        request = node._task.request
        assert request is not None
        if request.size > 1 and not self.gangs:
            return ResourceError(
                f"{node.label} is a gang of {request.gang}, and this executor runs no two tasks in processes of their "
                f'own: use a pool with as many workers, such as executor="loky:{request.gang}"'
            )
        machines = "; ".join([site.describe(n) for site, n in self.workers_at().items() if n])
        return ResourceError(
            f"{node.label} asks for {request}, which this executor does not have. There is {machines or 'no machine'}. "
            "Ask for less, or give the executor what is missing (its workers=, or resources= if it has more than that)"
        )

    def _check(self) -> None:
        """End the runs that ask for what is not to be had: now, and not when it is that node's turn."""
        self.stale = False
        self._possible.clear()
        for job in [job for job in self.core.jobs if job.unchecked]:
            known = {request: self.possible(request) for request in job.unchecked}
            refused = [node for request, node in job.unchecked.items() if known[request] is False]
            job.unchecked = {request: node for request, node in job.unchecked.items() if known[request] is None}
            if refused and not job.collect:  # else each fails when it is ready, and the others are done
                self.core._give_up(job, refused[0], self.refusal(refused[0]))

    # ---- beginning

    def place(self) -> None:
        """Begin what can begin."""
        core = self.core
        while self.inbox or self.stale:
            if self.stale:
                self._check()
            inbox = self.inbox[:]
            self.inbox.clear()  # in place: it is the jobs' own
            for job, node in inbox:
                request = node._task.request
                if not job.over and request is not None:
                    self._queue(job, request).nodes.append(node)
            self._fail_impossible()
        core.idle[:0] = self.held
        self.held = []
        self.short = False
        self._stake_claim()
        queues = sorted(self.waiting.values(), key=lambda queue: queue.turn)
        while queues:
            waiting = []
            for queue in queues:  # one each
                if self._begin(queue):
                    queue.turn, queue.since = next(self._turns), core._now
                    if queue.nodes:
                        waiting.append(queue)
                    else:
                        del self.waiting[queue.job, queue.request]
                else:
                    self.short = self.short or self._lacks_workers(queue)
            queues = waiting
        if self.claim is not None:
            self._hold_back(self.claim)
        elif self.fitted and not core.idle:
            self._help_others()

    def _queue(self, job: Job, request: Request) -> Queue:
        queue = self.waiting.get((job, request))
        if queue is None:
            queue = self.waiting[job, request] = Queue(job, request, next(self._turns), self.core._now)
        return queue

    def _fail_impossible(self) -> None:
        for queue in [queue for queue in self.waiting.values() if self.possible(queue.request) is False]:
            del self.waiting[queue.job, queue.request]
            for node in queue.nodes:
                if not queue.job.over:
                    self.core._give_up(queue.job, node, self.refusal(node))

    def _begin(self, queue: Queue) -> bool:
        """Begin the first of a queue, if all that it asks for is to be had now."""
        core, node, request = self.core, queue.nodes[0], queue.request
        if core.tight and core.units and not node._deps:  # it only makes more results
            return False
        if not core.idle and not self.fitted:
            return False
        seats = self._seats(request, self._kept_from(queue), core.home(node))
        if seats is None:
            return False
        if queue is self.claim:
            self.claim = None
        queue.nodes.popleft()
        party = Party(queue.job, node, request)
        for rank, (site, worker, accelerators) in enumerate(seats):
            (core.idle if worker in core.idle else self.fitted).remove(worker)
            site.take(request, accelerators)
            party.members.append(Member(party, rank, site, worker, accelerators))
        for worker in [w for w in self.fitted if self.site_of[w].in_use(self.accelerators[w])]:
            self.fitted.remove(worker)  # what it sees is another's now
            self._refit(worker, (), None)
        for member in party.members:
            worker = member.worker
            unfit = self.accelerators.get(worker, ()) != member.accelerators
            if self.fits and (unfit or (request.gang is not None and worker in self.worn)):
                member.present = False
                self._refit(worker, member.accelerators, member, fresh=request.gang is not None)
            else:
                self.seated[worker] = member
        self._start_if_complete(party)
        return True

    def _seats(
        self, request: Request, without: list[Site], home: str | None = None
    ) -> list[tuple[Site, str, tuple[str, ...]]] | None:
        """A worker and accelerators for each member, on as few machines as will do; None if not all are to be had."""
        idle: dict[Site, list[str]] = {}
        for worker in (*self.core.idle, *self.fitted):
            site = self.site_of[worker]
            if site not in without:
                idle.setdefault(site, []).append(worker)
        found: list[list[tuple[Site, str, tuple[str, ...]]]] = []
        for site, workers in idle.items():
            if home in workers:  # first, if it does as well as others
                workers.remove(home)
                workers.insert(0, home)
            found.append(self._seats_at(site, request, workers))
        if request.size == 1:
            found.sort(key=lambda seats: not any([worker == home for _, worker, _ in seats]))
        else:
            found.sort(key=len, reverse=True)
        seats = [seat for some in found for seat in some][: request.size]
        return seats if len(seats) == request.size else None

    def _seats_at(self, site: Site, request: Request, workers: list[str]) -> list[tuple[Site, str, tuple[str, ...]]]:
        """Members that could begin on a machine now, as far as it goes."""
        number = min(site.most_now(request), len(workers), request.size)
        left = list(workers)
        free = site.free_accelerators if request.gpus else []
        seats = []
        for _ in range(number):
            worker, accelerators = self._choose(request, left, free)
            left.remove(worker)
            free = [a for a in free if a not in accelerators]
            seats.append((site, worker, accelerators))
        return seats

    def _choose(self, request: Request, workers: list[str], free: list[str]) -> tuple[str, tuple[str, ...]]:
        """A worker, and accelerators: those that it sees already, if there are as many."""
        sees = self.accelerators.get
        gpus = request.gpus
        gang = request.gang is not None
        if gpus:
            for worker in workers:
                mine = sees(worker, ())
                if len(mine) == gpus and set(mine) <= set(free) and not (gang and worker in self.worn):
                    return worker, mine
            in_sight = {a for worker in workers for a in sees(worker, ())}
            best = sorted(free, key=lambda a: a in in_sight)[:gpus]
            chosen = tuple([a for a in free if a in best])
        else:
            chosen = ()

        def cost(worker: str) -> tuple[bool, bool, bool]:
            mine = sees(worker, ())
            loses = bool(mine) and not set(mine).intersection(chosen)  # others could do with what it sees
            return loses, mine != chosen, gang and worker in self.worn

        return min(workers, key=cost), chosen

    def _start_if_complete(self, party: Party) -> None:
        members = party.members
        if not all([member.present for member in members]):
            return
        core, job, node = self.core, party.job, party.node
        budget = BUDGET if party.request.gang is None else FOREVER
        units = []
        for member in members:
            del self.seated[member.worker]
            unit = core._unit(job, member.worker, [node], budget, False, False)
            unit.grant = member
            member.unit = unit
            core.units[member.worker] = unit
            job.give_inputs(unit)
            unit.started = core._now
            core.note_home(node, member.worker)
            units.append(unit)
        party.inputs = units[0].inputs
        core._out.append(Run(units[0]) if party.request.gang is None else RunTogether(units))

    def _dissolve(self, party: Party, again: bool = True) -> None:
        """A party does not come about: a worker of it has died, or nobody wants it any more."""
        for member in party.members:
            member.site.give(party.request, member.accelerators)
            if not member.present:
                for coming in self.coming.values():
                    if coming.member is member:
                        coming.member = None
            elif self.seated.pop(member.worker, None) is not None:
                self.rest(member.worker)
        if again and not party.job.over:
            self._queue(party.job, party.request).nodes.appendleft(party.node)

    def end(self, job: Job) -> None:
        """A job is over: what has not begun does not begin."""
        for request in [request for of, request in self.waiting if of is job]:
            del self.waiting[job, request]
        if self.claim is not None and self.claim.job is job:
            self.claim = None
        members = [*self.seated.values(), *[coming.member for coming in self.coming.values()]]
        for party in dict.fromkeys([member.party for member in members if member is not None]):
            if party.job is job:
                self._dissolve(party, again=False)

    def withdraw(self, job: Job) -> None:
        """Forget what of a job has not begun: it will be asked for again."""
        self.end(job)
        self.inbox[:] = [(j, node) for j, node in self.inbox if j is not job]

    # ---- those who wait

    def wait(self) -> float | None:
        """When a queue has waited long enough to make a claim; None: news will come first."""
        if not self.waiting or self.claim is not None:
            return None
        since = [queue.since for queue in self.waiting.values() if self.possible(queue.request)]
        return min(since) + PATIENCE if since else None

    def _stake_claim(self) -> None:
        """See to it that everybody gets their turn."""
        if self.claim is None:
            queues = [queue for queue in self.waiting.values() if self.possible(queue.request)]
            queue = min(queues, key=lambda queue: queue.turn, default=None)
            if queue is None or self.core._now < queue.since + PATIENCE:
                return
            self.claim, self.claimed = queue, []
        request = self.claim.request
        sites = [site for site in dict.fromkeys(self.site_of.values()) if site.most(request)]
        if request.size == 1:  # one machine, and always the same
            kept = [site for site in self.claimed if site in sites]
            sites = kept or sorted(sites, key=lambda site: site.missing(request))[:1]
        self.claimed = sites

    def _kept_from(self, queue: Queue) -> list[Site]:
        """The machines that are the claim's, and not for others that would take of what it needs."""
        if self.claim is None or self.claim is queue:
            return []
        claim, request = self.claim.request, queue.request
        mine, others = {name for name, _ in claim.needs}, {name for name, _ in request.needs}
        return self.claimed if claim.size > 1 or request.size > 1 or mine & others else []

    def _lacks_workers(self, queue: Queue) -> bool:
        """Whether but for idle workers the first of a queue could begin. A gang's counts once it has its turn."""
        request = queue.request
        if request.size > 1 and queue is not self.claim:
            return False
        kept = self._kept_from(queue)
        workers = [site for site in self.site_of.values() if site not in kept]
        there = [min(workers.count(site), site.most_now(request)) for site in dict.fromkeys(workers)]
        return sum(there) >= request.size

    def _hold_back(self, claim: Queue) -> None:
        """Keep idle workers for a gang that lacks but workers."""
        if claim.request.size > 1 and self._lacks_workers(claim):
            idle = self.core.idle
            self.held = [w for w in idle if self.site_of[w] in self.claimed][: claim.request.size]
            idle[:] = [w for w in idle if w not in self.held]

    def _help_others(self) -> None:
        """Have workers that see accelerators, and have nothing to do, make place for ones that can do other work."""
        core = self.core
        if core.tight:
            return
        wanted = sum([len(job.ready) for job in core.jobs]) - sum(
            [coming.member is None for coming in self.coming.values()]
        )
        for worker in self.fitted[: max(0, wanted)]:
            self.fitted.remove(worker)
            self._refit(worker, (), None)
