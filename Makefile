# The front door. `make help` lists what it can do.
.DEFAULT_GOAL := help
BUILD := build/release
FATHOM := $(BUILD)/bin/fathom
FUZZ_SECONDS ?= 60
PORT ?= 8080
CHAT_MODEL ?= smollm2:135m

.PHONY: help chat serve train-demo setup setup-build build test clients schemas asan tsan fuzz format format-check lint

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# A second run neither looks for packages nor configures: it starts at once, and offline.
.PHONY: program
program:
	@[ -f $(BUILD)/build.ninja ] || { scripts/setup build && \
	  cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_BENCH=OFF >/dev/null; }
	@bash -o pipefail -c "cmake --build $(BUILD) --target fathom | \
	  { grep --line-buffered -v -e 'no work to do' -e 'Re-checking' || true; }"

# At a terminal `bash -m` gives it to the program, so that Ctrl-C stops an answer and does not reach make.
chat: program ## talk with a model (CHAT_MODEL, smollm2:135m); the first run builds, and fetches it
	@if [ -t 0 ]; then bash -mc '"$$@"; exit $$?' -- $(FATHOM) run --pull $(CHAT_MODEL); \
	  else $(FATHOM) run --pull $(CHAT_MODEL); fi

serve: program ## serve a model's API at 127.0.0.1:PORT (8080); CHAT_MODEL, smollm2:135m
	@exec $(FATHOM) serve --pull --port $(PORT) $(CHAT_MODEL)

train-demo: setup ## the default experiment, under an hour on two cores (docs/nano.md); DEMO=--quick: minutes
	@cmake --preset release >/dev/null
	@cmake --build $(BUILD) --target fathom fathom-train
	@scripts/train_demo $(DEMO)

setup: ## install every dependency (Debian 12), tests' included
	@scripts/setup

setup-build:
	@scripts/setup build

build: setup-build ## compile the program
	@cmake --preset release -DFATHOM_TESTS=OFF -DFATHOM_BENCH=OFF >/dev/null
	@cmake --build $(BUILD)

test: setup ## build everything and run all tests
	@cmake --preset release -DFATHOM_TESTS=ON -DFATHOM_BENCH=ON >/dev/null
	@cmake --build $(BUILD)
	@ctest --test-dir $(BUILD) --output-on-failure -j2

clients: test ## run unmodified API clients (Python, Node) against the server
	@scripts/client_tests

schemas: test ## compare JSON schemas as grammars with the public test suite
	@scripts/schema_suite

asan: setup ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@cmake --fresh --preset asan >/dev/null
	@cmake --build build/asan
	@UBSAN_OPTIONS=print_stacktrace=1 ctest --test-dir build/asan --output-on-failure -j2

# Only what has threads of its own or is called by several. Suppressions want names, thus a symbolizer.
tsan: export TSAN_OPTIONS := suppressions=scripts/tsan_suppressions external_symbolizer_path=/usr/bin/llvm-symbolizer-19
tsan: setup ## run the tests of threads, engine and server under ThreadSanitizer
	@cmake --preset tsan >/dev/null
	@cmake --build build/tsan --target test_base test_engine test_server
	@build/tsan/bin/test_base --gtest_brief=1 --gtest_filter='ThreadPool*'
	@build/tsan/bin/test_engine --gtest_brief=1
	@build/tsan/bin/test_server --gtest_brief=1

fuzz: setup ## fuzz every target for FUZZ_SECONDS each (60)
	@scripts/fuzz $(FUZZ_SECONDS)

format: ## format every source file
	@git ls-files '*.h' '*.cpp' | xargs clang-format-19 -i

format-check: ## fail if a source file is not formatted
	@git ls-files '*.h' '*.cpp' | xargs clang-format-19 --dry-run -Werror

lint: setup ## clang-tidy over every source file (slow)
	@cmake --preset clang >/dev/null
	@git ls-files 'src/*.cpp' | xargs -P2 -n4 clang-tidy-19 -p build/clang --quiet
