import subprocess
import sys

PROGRAM = """
import resource, torch
from models.policy.allocator import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        several = [torch.ones(1_000_000) for _ in range(20)]
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

assert keep_freed_memory()
new_pages()
print(new_pages())
"""


def test_freed_memory_is_used_again_without_the_system() -> None:
    """Else it can take a hundred thousand pages anew, where nothing lies above the freed ones."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000
