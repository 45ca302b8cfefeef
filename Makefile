# The front door. `make help` lists what it can do.
.DEFAULT_GOAL := help
BUILD := build/release
FATHOM := $(BUILD)/bin/fathom

.PHONY: help setup build test asan format
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: ## install every dependency (Debian 12)
	@scripts/setup

build: ## compile the program (release)
	@cmake --preset release >/dev/null && cmake --build $(BUILD)

test: build ## build and run all tests
	@ctest --test-dir $(BUILD) --output-on-failure -j2
	@$(MAKE) --no-print-directory asan

asan: ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@cmake --preset asan >/dev/null && cmake --build build/asan && ctest --test-dir build/asan --output-on-failure -j2

format: ## format every source file
	@git ls-files '*.h' '*.cpp' | xargs clang-format-19 -i
