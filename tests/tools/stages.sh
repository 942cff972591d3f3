# SPDX-License-Identifier: AGPL-3.0-or-later
#
# The stages of tests/run.sh. Each writes its outcomes to $out/results/outcomes, a line each:
#     pass|fail|skip|unstable  COUNT  STAGE  NAME  HOW-TO-RERUN      (tabs between)
# (what was unstable counts as a pass too)
# and everything that a program said to a log under $out/results, so that the terminal shows only
# what a person needs. A stage that was asked for and did nothing is a failure.

stages_begin() {
    out=$1 jobs=$2
    mkdir -p "$out"
    out=$(cd "$out" && pwd)
    results=$out/results
    outcomes=$results/outcomes
    rm -rf "$results"
    mkdir -p "$results"
    : >"$outcomes"
    began=$(date +%s) shell_pid=$$
    stage_name= stage_began=$began stage_cpu=0
    symbolizer=$(command -v llvm-symbolizer-14 || command -v llvm-symbolizer || command -v addr2line)
    python=/usr/bin/python3
    [ -x $python ] || python=python3
    trap 'exit 130' INT TERM
    echo "tests: logs are in ${results#"$root"/}"
}

outcome() { # KIND COUNT NAME RERUN
    printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$stage_name" "$3" "$4" >>"$outcomes"
}

sum_of() { # KIND [STAGE]
    awk -F'\t' -v kind="$1" -v stage="${2:-}" \
        '$1 == kind && (stage == "" || $3 == stage) { n += $2 } END { print n + 0 }' "$outcomes"
}

some() { # COUNT WHAT
    [ "$1" = 0 ] || printf ', %s %s' "$1" "$2"
}

# Of all that this shell has waited for.
cpu_seconds() {
    awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print int(($14 + $15) / hz + 0.5) }' "/proc/$shell_pid/stat"
}

stage_close() {
    [ -n "$stage_name" ] || return 0
    local passed failed skipped unstable
    passed=$(sum_of pass "$stage_name") failed=$(sum_of fail "$stage_name")
    skipped=$(sum_of skip "$stage_name") unstable=$(sum_of unstable "$stage_name")
    if [ "$((passed + failed + skipped))" = 0 ]; then
        if [ -n "$only" ]; then
            echo "   no test of that name"
        else
            outcome fail 1 "$stage_name: it ran nothing" "tests/run.sh"
        fi
    fi
    printf '   %s: %s passed, %s failed%s%s  (%s s, %s s of processor time)\n' "$stage_name" "$passed" \
        "$failed" "$(some "$unstable" unstable)" "$(some "$skipped" skipped)" \
        $(($(date +%s) - stage_began)) $(($(cpu_seconds) - stage_cpu))
    stage_name=
}

stage() { # NAME WHAT
    stage_close
    stage_name=$1 stage_began=$(date +%s) stage_cpu=$(cpu_seconds)
    printf '== %s: %s\n' "$1" "$2"
}

stages_end() {
    stage_close
    behind_end
    local passed failed skipped unstable
    passed=$(sum_of pass) failed=$(sum_of fail) skipped=$(sum_of skip) unstable=$(sum_of unstable)
    if [ "$failed" != 0 ]; then
        echo
        echo "failed:"
        awk -F'\t' '$1 == "fail" { printf "  %s: %s\n      %s\n", $3, $4, $5 }' "$outcomes"
    fi
    if [ "$unstable" != 0 ]; then
        echo
        echo "unstable: failed among others, passed alone:"
        awk -F'\t' '$1 == "unstable" { printf "  %s: %s\n", $3, $4 }' "$outcomes"
    fi
    if [ "$skipped" != 0 ]; then
        echo
        echo "skipped:"
        awk -F'\t' '$1 == "skip" { printf "  %s: %s\n", $3, $4 }' "$outcomes" | sort | uniq
    fi
    echo
    echo "in $(($(date +%s) - began)) s, $(cpu_seconds) s of processor time"
    echo "$passed passed, $failed failed$(some "$unstable" unstable)$(some "$skipped" skipped)"
    [ "$failed" = 0 ] && [ "$passed" != 0 ]
}

# ---- Builds ----

built() { [ -e "$out/$1/.built" ]; }

export CCACHE_DEPEND=1 # what is not in the cache is then preprocessed once, not twice

build_tree() { # TREE CC CMAKE-OPTION...
    local tree=$1 cc=$2 began_at cpu_at log=$results/$1.build.log
    shift 2
    began_at=$(date +%s) cpu_at=$(cpu_seconds)
    rm -f "$out/$tree/.built"
    if CC=$cc timeout 120 cmake -S . -B "$out/$tree" -G Ninja -DFILA_WERROR=ON -DFILA_TESTS=ON \
        -DPython3_EXECUTABLE="$(command -v $python)" "$@" >"$log" 2>&1 </dev/null &&
        timeout 1800 ninja -C "$out/$tree" -j "$jobs" -k 0 >>"$log" 2>&1 </dev/null; then
        touch "$out/$tree/.built"
        outcome pass 1 "build" ""
        echo "   built in $(($(date +%s) - began_at)) s, $(($(cpu_seconds) - cpu_at)) s of processor time"
    else
        grep -E ' error: |^FAILED|undefined reference|CMake Error' "$log" | cut -c1-200 | awk '!seen[$0]++' | head -n 20
        outcome fail 1 "the build (${log#"$root"/})" \
            "CC=$cc cmake -S . -B $out/$tree -G Ninja -DFILA_WERROR=ON ${*@Q} && ninja -C $out/$tree"
    fi
}

# ---- Work behind the stages ----

# Keeps the processors busy while the tests of a stage wait for this and that: calls FUNCTION with each
# NAME, one after the other. What it prints is shown by `behind_await NAME`.
behind_begin() { # FUNCTION NAME...
    local function=$1
    shift
    (
        shell_pid=$BASHPID
        renice -n 10 -p $BASHPID >/dev/null
        for name in "$@"; do
            stage_name=
            "$function" "$name" >"$results/$name.behind" 2>&1
            touch "$results/$name.ended"
        done
    ) &
    behind=$!
}

behind_await() { # NAME
    while [ ! -e "$results/$1.ended" ] && kill -0 "$behind" 2>/dev/null; do
        sleep 0.2
    done
    cat "$results/$1.behind"
}

behind_end() {
    [ -z "${behind:-}" ] || wait "$behind"
}

# ---- Tests ----

# Options of the sanitizers: reports go to files, because the children of a Criterion suite lose
# their exit status.
sanitizer_options() { # TREE
    local reports=$out/$1/reports common
    rm -rf "$reports"
    mkdir -p "$reports"
    common=log_path=$reports/report:log_exe_name=1:external_symbolizer_path=$symbolizer
    export ASAN_OPTIONS=$common:detect_leaks=1:detect_stack_use_after_return=1:check_initialization_order=1
    export UBSAN_OPTIONS=$common:print_stacktrace=1
    export LSAN_OPTIONS=suppressions=$root/tests/suppressions/lsan.txt:print_suppressions=0
    export TSAN_OPTIONS=$common:ignore_noninstrumented_modules=1:report_thread_leaks=0:suppressions=$root/tests/suppressions/tsan.txt:second_deadlock_stack=1
}

# A test that fails is run once more, alone: what passes then is unstable, not failed.
ctest_tree() { # TREE CTEST-OPTION...
    local tree=$1 launcher= first=$results/$1.xml again=$results/$1.again.xml failed side_by_side=$((jobs * 2))
    shift
    sanitizer_options "$tree"
    case $tree in
    asan | tsan) launcher=$(layout_launcher) ;;
    esac
    order_tests "$out/$tree"
    [ "$tree" != tsan ] || side_by_side=$((jobs * 3)) # of its tests most wait, and no more is done behind them
    run_ctest "$first" -j "$side_by_side" ${only:+-R "$only"} "$@"
    if [ -s "$first" ]; then
        failed=$($python tests/tools/ctest_report.py --failed "$first")
        [ -z "$failed" ] || run_ctest "$again" -j 1 -R "$failed"
        [ -s "$again" ] || again=
        $python tests/tools/ctest_report.py --stage "$stage_name" --build "$out/$tree" \
            --outcomes "$outcomes" "$first" ${again:+"$again"} ||
            outcome fail 1 "the report of ctest (${first#"$root"/})" ""
    elif [ -z "$only" ]; then
        tail -n 30 "${first%.xml}.ctest.log" | sed 's/^/     | /'
        outcome fail 1 "ctest ended without a report (${first#"$root"/})" "ctest --test-dir $out/$tree"
    fi
    sanitizer_reports "$tree"
}

# The longest tests first, also in a fresh tree: ctest starts by what it remembers of the last run.
order_tests() { # BUILD-FOLDER
    local remembered=$1/Testing/Temporary/CTestCostData.txt
    mkdir -p "${remembered%/*}"
    [ -s "$remembered" ] || { awk '!/^#/ && NF == 2 { print $2, 1, $1 }' tests/tools/costs.txt; echo ---; } >"$remembered"
}

run_ctest() { # XML CTEST-OPTION...; also of ctest_tree: launcher, tree
    local xml=$1
    shift
    # shellcheck disable=SC2086
    $launcher ctest --test-dir "$out/$tree" --timeout 120 --no-tests=ignore --output-on-failure \
        --output-junit "$xml" --test-output-size-passed 200000 --test-output-size-failed 200000 "$@" \
        >"${xml%.xml}.ctest.log" 2>&1 </dev/null
}

# Some kernels lay memory out in a way that clang 14's sanitizers cannot work with; there they run
# without address space randomization.
layout_launcher() {
    local probe=$results/layout
    echo 'int main(void) { return 0; }' >"$probe.c"
    if clang -fsanitize=thread "$probe.c" -o "$probe" 2>/dev/null; then
        for _ in 1 2 3 4 5 6 7 8; do
            if ! "$probe" >/dev/null 2>&1; then
                echo "setarch $(uname -m) -R"
                return
            fi
        done
    fi
}

sanitizer_reports() { # TREE
    local file
    for file in "$out/$1"/reports/*; do
        [ -s "$file" ] || continue
        echo "   REPORT ${file#"$root"/}"
        head -n 25 "$file" | cut -c1-200 | sed 's/^/     | /'
        outcome fail 1 "a sanitizer's report: ${file#"$root"/}" "cat ${file#"$root"/}"
    done
}

# ---- The other stages ----

lint_format() {
    local log=$results/lint.log
    tests/lint.sh --format-only --jobs "$jobs" --outcomes "$outcomes" >"$log" 2>&1 </dev/null ||
        grep -E 'error:|warning:' "$log" | head -n 30
    grep -E '^lint: ' "$log" | sed 's/^/   /'
}

fuzz_one() { # NAME PROGRAM CORPUS SECONDS
    local name=$1 program=$2 corpus=$3 seconds=$4 work=$out/fuzz/$1 log=$results/fuzz.$1.log
    mkdir -p "$work/corpus" "$work/crashes"
    rm -f "$work"/crashes/*
    ASAN_OPTIONS=detect_leaks=1:external_symbolizer_path=$symbolizer UBSAN_OPTIONS=print_stacktrace=1 \
        timeout $((seconds + 60)) "$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$work/crashes/" "$work/corpus" "$corpus" \
        >"$log" 2>&1 </dev/null
    local status=$?
    if [ $status = 0 ]; then
        outcome pass 1 "$name" ""
        echo "   $name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs"
    else
        outcome fail 1 "$name (${log#"$root"/})" "$program $(ls "$work"/crashes/* 2>/dev/null | head -n 1)"
        echo "   FAILED $name"
        tail -n 30 "$log" | cut -c1-300 | sed 's/^/     | /'
    fi
}

fuzz_tree() { # TREE SECONDS
    [ -s "$out/$1/tests/fuzzers.txt" ] || return 0
    ( # of its own, for `wait -n` takes any child of the shell
        running=0
        while IFS=';' read -r name program corpus; do
            fuzz_one "$name" "$program" "$corpus" "$2" &
            running=$((running + 1))
            if [ $running -ge "$jobs" ]; then
                wait -n
                running=$((running - 1))
            fi
        done <"$out/$1/tests/fuzzers.txt"
        wait
    )
}

valgrind_tree() { # TREE
    if ! command -v valgrind >/dev/null; then
        outcome skip 1 "valgrind is not installed" ""
        return
    fi
    $python tests/tools/valgrind_run.py --build "$out/$1" --logs "$results/valgrind" --jobs "$jobs" \
        --list tests/valgrind.txt --suppressions tests/suppressions/valgrind.txt \
        --stage "$stage_name" --outcomes "$outcomes" 2>"$results/valgrind.log" </dev/null || {
        tail -n 20 "$results/valgrind.log" | sed 's/^/     | /'
        outcome fail 1 "the runner itself (${results#"$root"/}/valgrind.log)" ""
    }
}
