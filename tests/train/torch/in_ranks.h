// Several ranks as threads of one process.
#pragma once

#include <ATen/Parallel.h>

#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "train/torch/free_port.h"
#include "train/torch/ranks.h"

namespace fathom::train {

/// Does the work as each of so many ranks; what each threw.
inline std::vector<std::string> in_ranks(int size, const std::function<void(const Ranks&)>& work) {
  std::vector<std::string> errors(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  const std::uint16_t port = free_port();
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      RankSetup setup;
      setup.rank = rank;
      setup.size = size;
      setup.port = port;
      setup.patience = std::chrono::seconds(60);
      try {
        at::set_num_threads(1);  // else they spin for each other
        work(Ranks::join(setup));
      } catch (const Error& error) {
        errors[static_cast<std::size_t>(rank)] =
            std::string(to_string(error.code())) + ": " + error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

}  // namespace fathom::train
