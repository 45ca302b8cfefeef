#include "formats/quantize.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "formats/encode.h"
#include "formats/file_text.h"
#include "formats/gguf_checkpoint.h"
#include "formats/imatrix.h"
#include "formats/quantize_mix.h"

namespace fathom {
namespace {

bool convertible(DType dtype) {
  return info(dtype).quantised || dtype == DType::F32 || dtype == DType::F16 ||
         dtype == DType::BF16;
}

MixModel mix_model(const GgufCheckpoint& source) {
  MixModel model;
  const std::string architecture(source.get_string("general.architecture").value_or(""));
  // Absent, or one number a layer in some architectures: then the mix's plain rule holds.
  const auto number = [&](std::string_view key) -> std::int64_t {
    const MetaValue* value = source.metadata(architecture + std::string(key));
    const auto* integer = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
    return integer == nullptr ? 0 : std::clamp<std::int64_t>(*integer, 0, 1 << 20);
  };
  model.layers = static_cast<std::uint32_t>(number(".block_count"));
  model.experts = static_cast<std::uint32_t>(number(".expert_count"));
  const std::int64_t kv_heads = number(".attention.head_count_kv");
  if (kv_heads > 0) {
    model.heads_per_kv_head =
        static_cast<std::uint32_t>(number(".attention.head_count") / kv_heads);
  }
  model.has_output = false;
  for (const GgufFile& file : source.files()) {
    for (const GgufTensor& tensor : file.tensors()) {
      model.has_output = model.has_output || tensor.name == "output.weight";
    }
  }
  return model;
}

GgufMetadata carried_over(const GgufFile& first, const QuantizeMix& mix) {
  GgufMetadata metadata;
  for (const GgufKey& key : first.keys()) {
    if (!key.key.starts_with("split.")) metadata.copy(key);
  }
  metadata.u32("general.file_type", mix.file_type());
  if (info(mix.base()).quantised) metadata.u32("general.quantization_version", 2);
  return metadata;
}

void weigh(TensorJob& job, const ImportanceMatrix* matrix, QuantizeReport& report,
           const std::filesystem::path& path) {
  if (!info(job.plan.dtype).quantised) return;
  const ImportanceMatrix::Entry* entry = matrix ? matrix->find(job.plan.name) : nullptr;
  if (entry != nullptr) {
    try {
      job.importance = entry->of_shape(job.plan.shape);
    } catch (const Error& error) {
      fail(error.code(), "{}: tensor {}: {}", path.string(), printable(job.plan.name),
           error.what());
    }
    ++report.weighted;
  }
  require(!job.importance.empty() || !needs_importance(job.plan.dtype), ErrorCode::InvalidArgument,
          "{}: tensor {} as {} needs an importance matrix{}; make one with `fathom eval --imatrix`",
          path.string(), printable(job.plan.name), to_string(job.plan.dtype),
          matrix == nullptr ? "" : ", and the one given has no entry for it");
}

}  // namespace

double QuantizeReport::bits_per_weight() const {
  double elements = 0;
  for (const TensorRecord& tensor : tensors) {
    elements += static_cast<double>(tensor.shape.elements());
  }
  return elements > 0 ? 8.0 * static_cast<double>(bytes_after) / elements : 0;
}

QuantizeReport quantize_gguf(const std::filesystem::path& input,
                             const std::filesystem::path& output, const QuantizeOptions& options) {
  const QuantizeMix mix(options.type, options.pure);
  const GgufCheckpoint source(input);
  MixModel model = mix_model(source);
  std::optional<ImportanceMatrix> matrix;
  if (!options.imatrix.empty()) matrix = ImportanceMatrix::read(options.imatrix);
  model.has_importance = matrix.has_value();
  QuantizeReport report;
  std::vector<TensorJob> jobs;
  std::vector<TensorPlan> plans;
  for (const GgufFile& file : source.files()) {
    std::error_code absent;
    require(!std::filesystem::equivalent(file.path(), output, absent), ErrorCode::InvalidArgument,
            "{}: is read and cannot be written over", output.string());
    for (const GgufTensor& tensor : file.tensors()) {
      const TensorView view = file.view(tensor);
      MixChoice choice{view.dtype, ""};
      if (convertible(view.dtype)) choice = mix.choose(tensor.name, view.shape, model);
      const bool rounded_before = info(view.dtype).quantised && view.dtype != DType::Q8_0;
      require(choice.dtype == view.dtype || !rounded_before || options.allow_requantize,
              ErrorCode::InvalidArgument,
              "{}: tensor {} is {} already, and rounding it again to {} loses more than rounding "
              "the original; start from F16, BF16, F32 or Q8_0, or allow it explicitly",
              file.path().string(), printable(tensor.name), to_string(view.dtype),
              to_string(choice.dtype));
      TensorJob job{{std::string(tensor.name), choice.dtype, view.shape}};
      if (choice.dtype == view.dtype) {
        job.verbatim = view.data;
      } else {
        job.rows = rows_of(view);
        weigh(job, matrix ? &*matrix : nullptr, report, file.path());
      }
      const std::uint64_t bytes = tensor_bytes(choice.dtype, view.shape);
      report.tensors.push_back(
          {job.plan.name, view.dtype, choice.dtype, view.shape, bytes, std::move(choice.fallback)});
      report.bytes_before += view.data.size();
      report.bytes_after += bytes;
      plans.push_back(job.plan);
      jobs.push_back(std::move(job));
    }
  }
  ThreadPool pool(options.threads);
  GgufWriter writer(output, carried_over(source.files().front(), mix), std::move(plans));
  {
    Progress progress(options.progress, "quantizing", report.bytes_after);
    write_tensors(writer, jobs, pool, progress);
  }
  source.verify_unchanged();
  writer.commit();
  return report;
}

}  // namespace fathom
