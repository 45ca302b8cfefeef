// The trainer's subcommands, one file each, as cli/commands.h has the program's.
#pragma once

#include "cli/context.h"

namespace fathom {

void add_bpe_command(CLI::App& app, Context& context);
void add_corpus_command(CLI::App& app, Context& context);
void add_pretrain_command(CLI::App& app, Context& context);
void add_sft_command(CLI::App& app, Context& context);
void add_grpo_command(CLI::App& app, Context& context);
void add_evaluate_command(CLI::App& app, Context& context);
void add_report_command(CLI::App& app, Context& context);
void add_sample_command(CLI::App& app, Context& context);
void add_unpack_command(CLI::App& app, Context& context);
void add_sandboxed_command(CLI::App& app);
void add_chain_command(CLI::App& app, Context& context);

}  // namespace fathom
