#include "backend/cpu/head_products.h"

#include <vector>

#include "backend/cpu/products.h"

namespace fathom::cpu {

void matmul_heads(ThreadPool& pool, std::size_t tokens, std::span<const HeadProduct> heads) {
  if (tokens == 0 || heads.empty()) return;
  Scratch scratch(Scratch::Use::Call);
  std::vector<Activations> inputs;
  std::vector<Job> jobs;
  inputs.reserve(heads.size());  // jobs point into it
  jobs.reserve(heads.size());
  for (const HeadProduct& head : heads) {
    inputs.push_back({head.x, head.x_stride, tokens, head.weight->in_features()});
    need(inputs.back(), *head.weight, scratch.arena());
    jobs.push_back({&head.weight->impl(), &inputs.back(), head.y, head.y_stride});
  }
  prepare(pool, *jobs[0].weight->table, inputs);
  run(pool, jobs);
}

}  // namespace fathom::cpu
