// The subcommands, one file each: `add_X_command` in X_command.cpp declares its options, its help,
// and the callback that does the work. A callback throws fathom::Error to fail.
#pragma once

#include "cli/context.h"

namespace fathom {

void add_run_command(CLI::App& app, Context& context);
void add_serve_command(CLI::App& app, Context& context);
void add_self_test_command(CLI::App& app, Context& context);
void add_keys_command(CLI::App& app, Context& context);
void add_usage_command(CLI::App& app, Context& context);
void add_forget_command(CLI::App& app, Context& context);
void add_pull_command(CLI::App& app, Context& context);
void add_import_command(CLI::App& app, Context& context);
void add_list_command(CLI::App& app, Context& context);
void add_show_command(CLI::App& app, Context& context);
void add_verify_command(CLI::App& app, Context& context);
void add_rm_command(CLI::App& app, Context& context);
void add_convert_command(CLI::App& app, Context& context);
void add_quantize_command(CLI::App& app, Context& context);
void add_pack_command(CLI::App& app, Context& context);
void add_make_random_command(CLI::App& app, Context& context);
void add_train_command(CLI::App& app, Context& context);
void add_cost_command(CLI::App& app, Context& context);
void add_bench_command(CLI::App& app, Context& context);
void add_eval_command(CLI::App& app, Context& context);
void add_tokenize_command(CLI::App& app, Context& context);
void add_detokenize_command(CLI::App& app, Context& context);
void add_completion_command(CLI::App& app, Context& context);
void add_man_command(CLI::App& app, Context& context);

}  // namespace fathom
