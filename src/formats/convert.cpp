#include "formats/convert.h"

#include "base/error.h"
#include "formats/convert_parts.h"
#include "formats/hf_checkpoint.h"
#include "formats/quantize_mix.h"

namespace fathom {

ConvertReport convert_to_gguf(const std::filesystem::path& folder,
                              const std::filesystem::path& output, const ConvertOptions& options) {
  // An unknown type, or one that cannot be had here, is told before anything is read.
  const QuantizeMix mix(options.type, options.pure);
  require(
      !needs_importance(mix.base()), ErrorCode::InvalidArgument,
      "{} needs an importance matrix: convert to BF16, measure one with `fathom eval --imatrix`, "
      "then use `fathom quantize --imatrix`",
      mix.name());
  require(std::filesystem::is_directory(folder), ErrorCode::InvalidArgument,
          "{}: is not a folder; convert reads a Hugging Face model folder with config.json",
          folder.string());
  const HfCheckpoint source(folder);
  ConvertReport report;
  GgufMetadata metadata;
  const ConvertModel model = convert_config(source, options, metadata);
  convert_tokenizer(folder, source, model, options, metadata, report.notes);
  std::vector<SourcedJob> jobs = convert_tensors(source, model, options, report.notes);
  report.bytes_before = source.weight_bytes();
  choose_types(jobs, model, options, report);
  write_converted(output, std::move(metadata), std::move(jobs), options,
                  [&source] { source.verify_unchanged(); });
  return report;
}

void choose_types(std::vector<SourcedJob>& jobs, const ConvertModel& model,
                  const ConvertOptions& options, ConvertReport& report) {
  const QuantizeMix mix(options.type, options.pure);
  MixModel mix_model;
  mix_model.layers = model.layers;
  mix_model.experts = model.experts;
  mix_model.has_output = !model.tied;
  if (model.kv_heads > 0) mix_model.heads_per_kv_head = model.heads / model.kv_heads;
  report.architecture = model.architecture;
  for (SourcedJob& job : jobs) {
    TensorPlan& plan = job.job.plan;
    MixChoice choice = mix.choose(plan.name, plan.shape, mix_model);
    plan.dtype = choice.dtype;
    const std::uint64_t bytes = tensor_bytes(plan.dtype, plan.shape);
    report.tensors.push_back(
        {plan.name, job.from, plan.dtype, plan.shape, bytes, std::move(choice.fallback)});
    report.bytes_after += bytes;
  }
}

void write_converted(const std::filesystem::path& output, GgufMetadata metadata,
                     std::vector<SourcedJob> sourced, const ConvertOptions& options,
                     const std::function<void()>& before_commit) {
  const QuantizeMix mix(options.type, options.pure);
  metadata.u32("general.file_type", mix.file_type());
  if (info(mix.base()).quantised) metadata.u32("general.quantization_version", 2);
  std::vector<TensorJob> jobs;
  std::vector<TensorPlan> plans;
  std::uint64_t bytes = 0;
  for (SourcedJob& one : sourced) {
    bytes += tensor_bytes(one.job.plan.dtype, one.job.plan.shape);
    plans.push_back(one.job.plan);
    jobs.push_back(std::move(one.job));
  }
  ThreadPool pool(options.threads);
  GgufWriter writer(output, metadata, std::move(plans));
  {
    Progress progress(options.progress, options.activity, bytes);
    write_tensors(writer, jobs, pool, progress);
  }
  before_commit();
  writer.commit();
}

}  // namespace fathom
