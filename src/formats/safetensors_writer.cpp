#include "formats/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "base/atomic_file.h"
#include "base/checked.h"
#include "formats/file_text.h"
#include "formats/safetensors_file.h"

namespace fathom {
namespace {

/// The reference sorts by its own list of types, widest first.
std::size_t dtype_rank(DType dtype) {
  constexpr std::array kOrder{DType::I64,  DType::F64, DType::F32, DType::I32,
                              DType::BF16, DType::F16, DType::I16, DType::F8_E4M3,
                              DType::I8,   DType::U8,  DType::Bool};
  return static_cast<std::size_t>(std::find(kOrder.begin(), kOrder.end(), dtype) - kOrder.begin());
}

std::vector<const NamedTensor*> in_written_order(std::span<const NamedTensor> tensors) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return std::pair(dtype_rank(a->view.dtype), std::string_view(a->name)) <
           std::pair(dtype_rank(b->view.dtype), std::string_view(b->name));
  });
  return order;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const SafetensorsMetadata& metadata) {
  const auto order = in_written_order(tensors);
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::set<std::string_view> names{"__metadata__"};
  std::uint64_t offset = 0;
  // Built as text: an ordered_json object is searched from its start for each key it takes.
  std::string text = header.dump();
  text.pop_back();
  for (const NamedTensor* tensor : order) {
    require(names.insert(tensor->name).second, ErrorCode::InvalidArgument,
            "{}: tensor {} would be written twice", path.string(), printable(tensor->name));
    const std::uint64_t end = checked_add<std::uint64_t>(offset, tensor->view.data.size());
    nlohmann::ordered_json entry;
    entry["dtype"] = safetensors_dtype_name(tensor->view.dtype);
    entry["shape"] = std::vector<std::uint64_t>(tensor->view.shape.dims().begin(),
                                                tensor->view.shape.dims().end());
    entry["data_offsets"] = {offset, end};
    if (text.size() > 1) text += ',';
    text += nlohmann::json(tensor->name).dump() + ":" + entry.dump();
    offset = end;
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  require(text.size() <= SafetensorsLimits::kHeaderBytes, ErrorCode::InvalidArgument,
          "{}: the header would take {} bytes, at most {} are allowed; write shards", path.string(),
          text.size(), SafetensorsLimits::kHeaderBytes);

  AtomicFile file(path);
  const std::uint64_t length = text.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(text);
  for (const NamedTensor* tensor : order) file.write(tensor->view.data);
  file.commit();
}

void write_safetensors_folder(const std::filesystem::path& folder,
                              std::span<const NamedTensor> tensors, std::uint64_t max_shard_bytes,
                              const SafetensorsMetadata& metadata) {
  std::vector<std::vector<NamedTensor>> shards(1);
  std::uint64_t shard_bytes = 0;
  for (const NamedTensor& tensor : tensors) {
    const std::uint64_t bytes = tensor.view.data.size();
    if (!shards.back().empty() && shard_bytes + bytes > max_shard_bytes) {
      shards.emplace_back();
      shard_bytes = 0;
    }
    shards.back().push_back(tensor);
    shard_bytes += bytes;
  }
  if (shards.size() == 1) {
    return write_safetensors(folder / "model.safetensors", tensors, metadata);
  }
  std::vector<std::string> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    files.push_back(safetensors_part("model", i, shards.size()));
    write_safetensors(folder / files.back(), shards[i], metadata);
  }
  write_safetensors_index(folder, files);
}

std::string safetensors_part(std::string_view stem, std::size_t part, std::size_t parts) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem, part + 1, parts);
}

void write_safetensors_index(const std::filesystem::path& folder,
                             std::span<const std::string> files) {
  nlohmann::json index;
  std::uint64_t total = 0;
  for (const std::string& name : files) {
    const SafetensorsFile file(folder / name);
    for (const SafetensorsEntry& tensor : file.tensors()) {
      const bool fresh = index["weight_map"].emplace(tensor.name, name).second;
      require(fresh, ErrorCode::InvalidArgument, "{}: tensor {} would be written twice",
              folder.string(), printable(tensor.name));
      total += tensor.bytes;
    }
  }
  index["metadata"]["total_size"] = total;
  AtomicFile file(folder / "model.safetensors.index.json");
  file.write(index.dump(2) + "\n");
  file.commit();
}

}  // namespace fathom
