#!/usr/bin/env bash
# What this project does on a GPU, in one command of under eight minutes that downloads nothing:
#
#   bash benchmarks/gpu.sh OUT [PHOTOGRAPHS]
#
# It runs the tests that need CUDA (a skipped one fails) and one benchmark after the other, each in
# a process of its own with a time limit; a part that fails does not stop the next. OUT/gpu.json
# holds what they measured, OUT/log.txt what they printed. Nothing needs to be installed but the
# libraries; photographs are drawn where no folder is given.
#
#   DFF_GPU_PARTS="tests nmf"  only these parts
#   DFF_GPU_WEIGHTS=FILE       weights of squeezenet1_1; PHOTOGRAPHS/weights/ is searched for them
#   DFF_GPU_REHEARSAL=1        small sizes on a CPU: a rehearsal of everything but the figures
#   DFF_GPU_SECONDS=470        for all parts together
#   PYTHON=python3             the interpreter that has torch
set -uo pipefail

out=${1:?usage: bash benchmarks/gpu.sh OUT [PHOTOGRAPHS]}
mkdir -p "$out" || exit 1
DFF_GPU_OUT=$(cd "$out" && pwd)
DFF_GPU_PHOTOGRAPHS=
if [ -n "${2:-}" ]; then
    DFF_GPU_PHOTOGRAPHS=$(cd "$2" && pwd) || exit 1
fi
here=$(pwd)
cd "$(dirname "$0")/.." || exit 1
if [ -n "${DFF_GPU_WEIGHTS:-}" ]; then
    DFF_GPU_WEIGHTS=$(cd "$here" && realpath "$DFF_GPU_WEIGHTS")
else
    DFF_GPU_WEIGHTS=$(ls "$DFF_GPU_PHOTOGRAPHS"/weights/squeezenet1_1*.pth 2>/dev/null | head -1)
fi
export DFF_GPU_OUT DFF_GPU_PHOTOGRAPHS DFF_GPU_WEIGHTS
export LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

# seconds after which a part is stopped, in the order of the run
limits="tests:130 nmf:80 peers:75 extract:60 refine:65 whole_path:90"

run_parts() {
    command -v nvidia-smi >/dev/null && nvidia-smi --format=csv,noheader \
        --query-gpu=name,memory.total,driver_version,clocks.max.sm,clocks.max.mem,power.limit
    "${PYTHON:-python3}" -m benchmarks.gpu.merge --machine
    local entry part limit left start code
    for entry in $limits; do
        part=${entry%:*} limit=${entry#*:}
        case " ${DFF_GPU_PARTS:-$part} " in *" $part "*) ;; *) continue ;; esac
        left=$((${DFF_GPU_SECONDS:-470} - SECONDS))
        [ "$left" -lt "$limit" ] && limit=$left
        echo
        echo "=== $part"
        start=$EPOCHREALTIME code=124
        [ "$limit" -gt 0 ] && {
            timeout --kill-after=10 "$limit" "${PYTHON:-python3}" -m "benchmarks.gpu.$part"
            code=$?
        }
        echo "$part $code $start $EPOCHREALTIME" >>"$DFF_GPU_OUT/parts.txt"
    done
    echo
    "${PYTHON:-python3}" -m benchmarks.gpu.merge
}

for part in ${DFF_GPU_PARTS:-}; do
    case " $limits " in
        *" $part:"*) ;;
        *) echo "gpu.sh: no part $part; there are: $limits" >&2 && exit 2 ;;
    esac
done
for entry in $limits; do rm -f "$DFF_GPU_OUT/${entry%:*}.json"; done
rm -f "$DFF_GPU_OUT"/{parts.txt,gpu.json}
run_parts 2>&1 | tee "$DFF_GPU_OUT/log.txt"
exit "${PIPESTATUS[0]}"
