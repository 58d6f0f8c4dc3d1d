import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from models.learning.trainer import StepReport
from tasks.board import Board


def step(number: int, loss: float) -> StepReport:
    return StepReport(
        step=number,
        num_steps=4,
        loss=loss,
        grad_norm=0.5,
        learning_rate=1e-3,
        num_examples=2,
        num_tokens=30,
        tokens_done=30 * number,
        tokens_in_all=120,
        seconds=0.1,
        measured={"kl": 0.25},
    )


def read(folder: Path) -> dict[str, dict[int, float]]:
    """Tag to step to number, as TensorBoard shows them: a file that begins at a step takes back what is after it."""
    shown: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (size,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + size])
            place += 12 + size + 4
            if event.session_log.status == event.session_log.START:
                for numbers in shown.values():
                    for later in [number for number in numbers if number >= event.step]:
                        del numbers[later]
            for value in event.summary.value:
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def test_each_step_is_written_once_also_where_a_training_went_on(tmp_path: Path) -> None:
    assert not list(tmp_path.iterdir())
    first = Board(tmp_path)
    for number in (1, 2, 3):
        first(step(number, loss=number))
    first._writer.close()  # as a process that was broken off leaves it
    time.sleep(1.1)  # the second is in the files' names
    again = Board(tmp_path)
    for number in (3, 4):
        again(step(number, loss=10 * number))
    shown = read(tmp_path)
    assert shown["loss"] == {1: 1, 2: 2, 3: 30, 4: 40}
    assert shown["kl"] == dict.fromkeys(range(1, 5), 0.25)
    assert set(shown) == {"loss", "grad_norm", "learning_rate", "tokens_per_s", "kl"}
    assert shown["tokens_per_s"][4] == 300
