# Podium: `make help` says what there is.

PYTHON ?= python3
VENV := .venv
TF_VENV := .venv-tensorflow
COMPILE_VENV := .venv-compile
BIN := $(VENV)/bin
# pip reads the exact versions from here; pyproject.toml says what is needed.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test test-slow test-clusters test-gnugo test-tensorflow scale-table speed \
	lint format programs clean

help: ## Say what each target does
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

run: $(VENV)/.run ## Install; make a result of the tiny benchmark; report it
	$(BIN)/python -m launch.prepare_data --dataset=digits
	$(BIN)/python -m launch.benchmark --benchmark=resnet --size=tiny

speed: $(VENV)/.run ## Measure how fast this machine runs every benchmark, without data
	$(BIN)/python -m launch.speed --all --size=tiny --json=results/speed.json

test: $(VENV)/.test ## Run the tests, all but those with a target of their own
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile \
	  -m 'not slow and not cluster and not tensorflow and not gnugo'

test-slow: $(VENV)/.test ## Run the proofs that take minutes
	$(BIN)/python -m pytest -m slow

test-clusters: $(VENV)/.test ## Run under real Slurm and Open MPI, and across namespaces (Debian, root)
	apt-get update -qq && \
	  apt-get install -y -qq openmpi-bin slurm-wlm munge iproute2
	$(BIN)/python -m pytest -m cluster

test-gnugo: $(VENV)/.test ## Play new games of Go beside GNU Go (Debian, root)
	apt-get update -qq && apt-get install -y -qq gnugo
	$(BIN)/python -m pytest -m gnugo

test-tensorflow: $(TF_VENV)/.done ## Compare with TensorFlow's operators and TFDS's own builder
	$(TF_VENV)/bin/python -m pytest -m tensorflow tests/tensorflow

lint: $(VENV)/.test ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.test ## Write the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Batches are those of published results and convergence points (docs/rules.md).
COMPILE := $(COMPILE_VENV)/bin/python -m launch.compile \
	--document=docs/scale.md --details
COMPILE_RESNET := $(COMPILE) --benchmark=resnet --size=reference \
	--hp=compute_dtype=bfloat16
COMPILE_NCF := $(COMPILE) --benchmark=ncf --hp=global_batch_size=1048576
COMPILE_TRANSFORMER := $(COMPILE) --benchmark=transformer --size=reference \
	--hp=compute_dtype=bfloat16 --hp=batching=packing \
	--hp=global_batch_size=524288 --hp=max_sequence_length=80 \
	--hp=base_learning_rate=1.875 --hp=warmup_steps=831 --hp=beta_1=0.88 \
	--hp=beta_2=0.92 --hp=eval_batch_size=256 --hp=eval_lengths=256
COMPILE_DLRM := $(COMPILE) --size=reference --hp=global_batch_size=65536
COMPILE_BERT := $(COMPILE) --benchmark=bert --size=reference \
	--hp=compute_dtype=bfloat16 --hp=global_batch_size=4608 \
	--hp=base_learning_rate=3.5e-3 --hp=training_steps=700 \
	--hp=beta_1=0.62 --hp=beta_2=0.9 --hp=samples_per_row=8 \
	--hp=mean_samples_per_row=2.0 --hp=eval_batch_size=1024
COMPILE_GNMT := $(COMPILE) --benchmark=gnmt --size=reference \
	--hp=compute_dtype=bfloat16 --hp=global_batch_size=8192 \
	--hp=base_learning_rate=4e-3 --hp=remain_steps=2259 \
	--hp=decay_interval=283 --hp=max_sequence_length=75 \
	--hp=eval_batch_size=3072
COMPILE_RNNT := $(COMPILE) --benchmark=rnnt --size=reference \
	--hp=compute_dtype=bfloat16 --hp=global_batch_size=2048 \
	--hp=joint_block=4 --hp=eval_batch_size=512
COMPILE_UNET3D := $(COMPILE) --benchmark=unet3d --size=reference \
	--hp=compute_dtype=bfloat16 --model_axis=8
COMPILE_MINIGO := $(COMPILE) --benchmark=minigo --size=reference \
	--hp=compute_dtype=bfloat16
PODS := v5e-256,v5p-512,v6e-256
ALL_SYSTEMS := v5e-8,$(PODS),h100-8,h100-64

scale-table: $(COMPILE_VENV)/.done ## Compile for pods and clusters into docs/scale.md (an hour)
	$(COMPILE_RESNET) --section=resnet-slice --system=v5e-8 \
	  --per_chip_batch=256
	$(COMPILE_RESNET) --section=resnet-pods --system=v5e-256,v5p-512 \
	  --per_chip_batch=128 --hp=model_bn_span=128
	$(COMPILE_RESNET) --section=resnet-v6e --system=v6e-256 \
	  --per_chip_batch=128 --hp=model_bn_span=128 \
	  --compiler_option=exec_time_optimization_effort=-1.0
	$(COMPILE_RESNET) --section=resnet-gpu --system=h100-8,h100-64 \
	  --per_chip_batch=408 --hp=model_bn_span=204
	$(COMPILE_RESNET) --section=records --nodetails \
	  --programs=train_step --system=v3-32,v4-16 --per_chip_batch=256
	$(COMPILE_RESNET) --section=weak --nodetails --programs=train_step \
	  --system=v5e-8,v5e-64,v5e-256 --per_chip_batch=64
	$(COMPILE_RESNET) --section=strong --nodetails --programs=train_step \
	  --system=v5e-16,v5e-64,v5e-256 --hp=model_bn_span=16 \
	  --hp=global_batch_size=4096
	$(COMPILE_NCF) --section=ncf --size=reference --system=$(ALL_SYSTEMS)
	$(COMPILE_NCF) --section=ncf-lazy --size=reference \
	  --hp=opt_name=lazy_adam --system=v5e-8,h100-8
	$(COMPILE_NCF) --section=ncf-expanded --size=expanded \
	  --system=$(ALL_SYSTEMS)
	$(COMPILE_NCF) --section=ncf-expanded-sharded --size=expanded \
	  --model_axis=8 --hp=table_row_multiple=8 --system=$(ALL_SYSTEMS)

	$(COMPILE_TRANSFORMER) --section=transformer \
	  --system=v5e-256,v5p-512,h100-64
	$(COMPILE_DLRM) --section=dlrm --benchmark=dlrm --system=h100-64
	$(COMPILE_DLRM) --section=dlrm-tpu --benchmark=dlrm --system=v5p-128
	$(COMPILE_DLRM) --section=dlrm-dcnv2 --benchmark=dlrm_dcnv2 \
	  --system=v5p-128
	$(COMPILE_DLRM) --section=dlrm-dcnv2-gpu --benchmark=dlrm_dcnv2 \
	  --system=h100-64
	$(COMPILE_BERT) --section=bert --system=v5e-256,v5p-512,h100-64
	$(COMPILE_GNMT) --section=gnmt --system=v5e-256
	$(COMPILE_GNMT) --section=gnmt-gpu --system=h100-64
	$(COMPILE_RNNT) --section=rnnt --system=v5e-256,h100-64
	$(COMPILE_UNET3D) --section=unet3d --system=v5p-512 \
	  --hp=global_batch_size=64 --hp=last_batch=padded \
	  --hp=eval_batch_size=256
	$(COMPILE_UNET3D) --section=unet3d-gpu --system=h100-64 \
	  --hp=eval_batch_size=64
	$(COMPILE_MINIGO) --section=minigo-pod --system=v5e-256 \
	  --hp=concurrent_games=16384 --hp=eval_batch_size=512
	$(COMPILE_MINIGO) --section=minigo-gpu --system=h100-64 \
	  --hp=concurrent_games=8192

programs: ## Install the Debian programs that some tests call
	@command -v chromium >/dev/null && command -v jpegtran >/dev/null && \
	  command -v shellcheck >/dev/null || \
	  (apt-get update -qq && \
	   apt-get install -y -qq chromium libjpeg-turbo-progs shellcheck)

clean: ## Remove what was installed and cached here; data and results stay
	rm -rf $(VENV) $(TF_VENV) $(COMPILE_VENV) .cache .pytest_cache .ruff_cache *.egg-info

$(VENV)/.run: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing Podium into $(VENV) (about a minute) ...'
	@$(PIP) --editable '.[tiny]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo 'Installing what the tests need into $(VENV) ...'
	@$(PIP) --editable '.[tiny,dev]'
	@touch $@

$(TF_VENV)/.done: pyproject.toml constraints.txt
	@test -x $(TF_VENV)/bin/python || $(PYTHON) -m venv $(TF_VENV)
	@echo 'Installing TensorFlow and Podium into $(TF_VENV) (minutes) ...'
	@$(TF_VENV)/bin/python -m pip install --quiet \
	  --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[compare]'
	@touch $@

$(COMPILE_VENV)/.done: pyproject.toml constraints.txt
	@test -x $(COMPILE_VENV)/bin/python || $(PYTHON) -m venv $(COMPILE_VENV)
	@echo 'Installing the compilers for TPUs and GPUs (5 GB, minutes) ...'
	@$(COMPILE_VENV)/bin/python -m pip install --quiet \
	  --disable-pip-version-check --constraint constraints.txt \
	  --editable '.[tpu,gpu]'
	@touch $@
