// The program `fathom-train`, which `fathom train` runs.
#include <CLI/CLI.hpp>

#include "cli/app.h"
#include "cli/train/commands.h"

namespace {

void build(CLI::App& app, fathom::Context& context) {
  app.description("Trains language models by DeepSeek's published recipe.");
  app.footer("'fathom train COMMAND --help' tells more of a command.");
  fathom::add_bpe_command(app, context);
  fathom::add_corpus_command(app, context);
  fathom::add_pretrain_command(app, context);
  fathom::add_sft_command(app, context);
  fathom::add_grpo_command(app, context);
  fathom::add_evaluate_command(app, context);
  fathom::add_report_command(app, context);
  fathom::add_sample_command(app, context);
  fathom::add_unpack_command(app, context);
  fathom::add_chain_command(app, context);
  fathom::add_sandboxed_command(app);
}

}  // namespace

int main(int argc, char** argv) { return fathom::run_program({"fathom train", build}, argc, argv); }
