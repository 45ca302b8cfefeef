#!/usr/bin/env python3
"""Answers a second that TRL's GRPOTrainer samples and learns from, on the CPU: the peer of bench/grpo_compare.

    PYTHON bench/grpo_peer.py MODEL TASKS [--questions 16] [--group 16] [--max-tokens 72] [--steps 4] [--rate 3e-4]

MODEL is a folder that transformers opens, TASKS JSON lines with a prompt and its answer. PYTHON has torch, transformers,
trl and datasets (measured with 2.13, 5.23.0, 1.16.0 and 5.2.0). The first step is not counted.
"""
import argparse
import json
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    def __init__(self):
        self.ends = []

    def on_step_end(self, *args, **kwargs):
        self.ends.append(time.perf_counter())


def right(completions, answer, **kwargs):
    """1 where what follows the thought is the answer."""
    return [float(text.split("</think>")[-1].strip() == expected) for text, expected in zip(completions, answer)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("tasks")
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=72)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{options.model}/tokenizer.json", eos_token="<|end|>",
                                        pad_token="<|end|>", padding_side="left")
    with open(options.tasks) as file:
        tasks = [json.loads(line) for line in file]
    answers = options.questions * options.group
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, per_device_train_batch_size=answers,
            num_generations=options.group, max_completion_length=options.max_tokens, learning_rate=options.rate,
            lr_scheduler_type="constant", max_steps=options.steps, temperature=1.0, beta=0.0, logging_steps=1,
            report_to=[], save_strategy="no", gradient_checkpointing=False, disable_tqdm=True)
        trainer = GRPOTrainer(model=model, reward_funcs=right, args=config, train_dataset=Dataset.from_list(tasks),
                              processing_class=tokenizer, callbacks=[clock])
        trainer.train()
    rewards = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    lengths = [line["completions/mean_length"] for line in trainer.state.log_history if "reward" in line]
    seconds = (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1)
    json.dump({"answers_per_s": answers / seconds, "rewards": rewards, "lengths": lengths}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
