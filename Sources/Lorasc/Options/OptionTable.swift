/// One row of the table of options, which feeds parsing, `lorasc_option_describe`,
/// Python's help and the documentation.
public struct OptionDescription: Sendable {
  public enum Kind: String, Sendable { case integer, number, boolean, choice, text, list }
  public enum Scope: String, Sendable { case model, adapter, trainer }

  public let key: String
  public let kind: Kind
  public let defaultValue: String
  public let minimum: Double?
  public let maximum: Double?
  /// The words of a choice, or words that may stand for a number.
  public let choices: [String]
  public let scope: Scope
  public let help: String

  init(
    _ key: String, _ kind: Kind, _ defaultValue: String, min: Double? = nil, max: Double? = nil,
    choices: [String] = [], _ scope: Scope, _ help: String
  ) {
    self.key = key
    self.kind = kind
    self.defaultValue = defaultValue
    self.minimum = min
    self.maximum = max
    self.choices = choices
    self.scope = scope
    self.help = help
  }
}

/// Every option of the library, in the order in which they are shown.
public enum OptionTable {
  public static let all: [OptionDescription] = general + adapter + loop + optimizer + cascade

  static let byKey: [String: OptionDescription] = Dictionary(
    uniqueKeysWithValues: all.map { ($0.key, $0) })

  private static let general: [OptionDescription] = [
    .init(
      "threads", .integer, "0", min: 0, max: 1024, .model,
      "Threads of a trainer, of predictions and generation; 0: as many as the process may run "
        + "on. The results do not depend on it."),
    .init(
      "thread_pool", .choice, "own", choices: ["own", "openmp"], .model,
      "Whose threads these are: the engine's own, or those of the process's OpenMP (GNU's libgomp, "
        + "which PyTorch brings), for a host whose own loops run on them in turn with the engine."),
    .init(
      "kernels", .choice, "auto", choices: ["auto", "baseline", "avx2", "avx512"], .model,
      "The level of the elementwise kernels; auto: the best that this CPU runs."),
    .init(
      "products", .choice, "auto", choices: ["auto", "openblas", "onednn"], .model,
      "The library of matrix products; auto: oneDNN where it is installed and the CPU has AVX-512, "
        + "else OpenBLAS."),
    .init(
      "dtype", .choice, "auto", choices: ["auto", "float32", "bfloat16", "float16"], .model,
      "What the backbone's matrices are held in; auto: as the file stores them. 16-bit and "
        + "quantised ones are widened where they are used: less memory, arithmetic in float32."),
    .init(
      "truncation", .choice, "error", choices: ["error", "right", "left"], .model,
      "Rows longer than the model's positions: refused, or cut to them at their end or their "
        + "beginning."),
  ]

  private static let adapter: [OptionDescription] = [
    .init(
      "method", .choice, "lorasc", choices: Presets.names, .adapter,
      "A preset: defaults of other options, which win over it when set by hand. lora, rslora, "
        + "lora+, dora, lora-fa, pissa: one cascade, slow_rate 1, no noise. cola, relora, rac-lora: "
        + "cascades with slow_rate 1, no noise. lorasc, alone or over one of them: cascades with "
        + "slow_rate and noise."),
    .init("r", .integer, "8", min: 1, max: 65536, .adapter, "Rank of the adapters."),
    .init(
      "lora_alpha", .number, "16", min: 0, .adapter,
      "Numerator of the scale s = lora_alpha / r; greater than 0."),
    .init(
      "use_rslora", .boolean, "false", .adapter, "Scale s = lora_alpha / sqrt(r) instead."),
    .init(
      "use_dora", .boolean, "false", .adapter,
      "Magnitude and direction apart (DoRA): each row of W + s B A is scaled to the trained "
        + "magnitude m."),
    .init(
      "dora_norm", .choice, "detached", choices: ["detached", "exact"], .adapter,
      "Whether the row norms of W + s B A count as constants in the gradient, as in PEFT, or are "
        + "differentiated too."),
    .init(
      "rank_pattern", .text, "{}", .adapter,
      "Ranks of modules by name, a JSON object as PEFT's: the first key that matches the end of a "
        + "module's name wins over r."),
    .init(
      "alpha_pattern", .text, "{}", .adapter, "The same for lora_alpha."),
    .init(
      "ranks", .list, "", .adapter,
      "Rank of each cascade in turn, the last one for all that follow; step_down: r, r/2, r/4, "
        + "... 1; empty: r."),
    .init(
      "master_weights", .choice, "auto", choices: ["auto", "float32", "factors"], .adapter,
      "How changed matrices are held after the first cascade. float32: a copy of each. factors: "
        + "low-rank terms beside the backbone, which are added where a matrix is used: memory does "
        + "not grow by copies. auto: factors where the backbone is quantised. DoRA and persistent "
        + "noise need float32."),
    .init(
      "lora_dropout", .number, "0", min: 0, max: 0.999, .adapter,
      "Dropout of the adapters' input; on linear modules only, as in PEFT."),
    .init(
      "init_lora_weights", .choice, "default", choices: ["default", "gaussian", "pissa"], .adapter,
      "First factors. default: A uniform in +-1/sqrt(in), B = 0. gaussian: A normal with deviation "
        + "1/r, B = 0. pissa: the principal singular vectors, taken out of the backbone."),
    .init(
      "target_modules", .text, "auto", .adapter,
      "Which linear modules and embeddings get an adapter, by PEFT's rules: a list matches a whole module name or its "
        + "end after a dot; a single pattern with any of ^$*+?()[]{}|\\ is a regular expression for "
        + "the whole name; all-linear: every linear module but the output layer; auto: the "
        + "attention modules that PEFT takes for the architecture, as query,value."),
    .init(
      "exclude_modules", .text, "", .adapter,
      "Modules that get none, in the form of target_modules."),
    .init(
      "layers_to_transform", .list, "", .adapter,
      "Indices of the layers that get adapters, where target_modules is a list; empty: all."),
    .init(
      "layers_pattern", .list, "", .adapter,
      "Names before the layer's index in a module's name; empty: any."),
    .init(
      "allow_no_match", .boolean, "false", .adapter,
      "Accept a target rule that matches nothing, and train the head alone."),
    .init(
      "modules_to_save", .list, "", .adapter,
      "Modules trained in full beside the head, by the ends of their names: linear modules, "
        + "LayerNorm, embeddings, or what holds these."),
    .init(
      "bias", .choice, "none", choices: ["none", "all", "lora_only"], .adapter,
      "Which biases are trained: none, every one, LayerNorm's too, or those of adapted modules."),
    .init(
      "head", .choice, "auto",
      choices: ["auto", "classifier", "mean_linear", "token", "lm", "embedding"], .adapter,
      "The task head. classifier: transformers' own for sequences or images. mean_linear: mean of "
        + "the tokens, linear. token: linear for each token. lm: the next token, by the model's "
        + "output layer. embedding: mean of the tokens, compared within a batch. auto: the folder's "
        + "own head; else lm for decoders, classifier for images, mean_linear for encoders."),
    .init(
      "num_labels", .integer, "0", min: 0, max: 1_000_000, .adapter,
      "Outputs of the head; 0: as the folder's own head has, else 2."),
    .init(
      "problem_type", .choice, "auto",
      choices: [
        "auto", "single_label_classification", "multi_label_classification", "regression",
      ], .adapter,
      "auto: the folder's own, else regression for one label and classification for more."),
    .init(
      "id2label", .list, "", .adapter,
      "Names of the classes in order, for config.json; as many as num_labels."),
    .init(
      "contrastive_rows", .integer, "2", min: 2, max: 1024, .adapter,
      "For head=embedding: consecutive rows of an example: an anchor, its positive, and negatives."),
    .init(
      "adapter_seed", .integer, "0", min: 0, max: 9.007199254740992e15, .adapter,
      "Seed of the first A factors and of a new head."),
  ]

  private static let loop: [OptionDescription] = [
    .init(
      "seed", .integer, "0", min: 0, max: 9.007199254740992e15, .trainer,
      "Seed of noise, shuffling, dropout and later A factors."),
    .init(
      "epochs", .integer, "3", min: 1, max: 1_000_000, .trainer,
      "Passes over the data of a run, unless max_steps is set."),
    .init(
      "max_steps", .integer, "0", min: 0, max: 1e15, .trainer,
      "Optimizer steps of a run, in place of epochs; the length of the schedule for a host that "
        + "steps by itself; 0: by epochs."),
    .init(
      "batch_size", .integer, "32", min: 1, max: 1_000_000, .trainer,
      "Rows of a batch; with head=embedding examples, which are compared with each other."),
    .init(
      "gradient_accumulation_steps", .integer, "1", min: 1, max: 1_000_000, .trainer,
      "Batches for one optimizer step of a run."),
    .init(
      "max_batch_tokens", .integer, "4096", min: 1, max: 16_777_216, .trainer,
      "Most tokens of one forward and backward: the plan's buffers are made for it."),
    .init(
      "memory_limit", .integer, "0", min: 0, max: 1e12, .trainer,
      "MiB that the model and its training may take by lorasc_estimate; more is refused before "
        + "anything is allocated; 0: no limit."),
    .init(
      "recompute", .choice, "none", choices: ["none", "selective", "layer"], .trainer,
      "What the backward makes again instead of keeping it. selective: what a feed-forward's "
        + "activation gives. layer: each layer's forward, from its input. Same bits, less memory."),
    .init(
      "pack_weights", .choice, "auto", choices: ["auto", "on", "off"], .trainer,
      "With oneDNN in float32: packed copies of the backbone's matrices, which make products a few "
        + "percent faster and take 8 bytes for each of their parameters; auto: where that is at most a "
        + "third of the matrices' inputs and outputs for max_batch_tokens tokens. In bfloat16 there are always copies, of half the size."
    ),
    .init(
      "compute_dtype", .choice, "float32", choices: ["float32", "bfloat16"], .trainer,
      "What products are computed in: those with the backbone's matrices, attention's, and the "
        + "experts' without dropout and DoRA. bfloat16 needs oneDNN: what they multiply is rounded "
        + "to it, and what a block keeps for its backward is held in it. Sums, the residual "
        + "stream, softmax, factors, their gradients and the optimizer stay float32."),
    .init(
      "shuffle", .boolean, "true", .trainer, "A new order of the rows in every epoch."),
    .init(
      "label_smoothing", .number, "0", min: 0, max: 1, .trainer,
      "Share of the target spread over all classes."),
    .init(
      "similarity_scale", .number, "20", min: 0, max: 1e6, .trainer,
      "For head=embedding: what cosines are multiplied by before the softmax."),
    .init(
      "class_weights", .list, "", .trainer,
      "Weight of each class in the loss, num_labels numbers; empty: all 1."),
    .init(
      "hidden_dropout", .number, "0", min: 0, max: 0.999, choices: ["from_config"], .trainer,
      "Dropout of hidden states."),
    .init(
      "attention_dropout", .number, "0", min: 0, max: 0.999, choices: ["from_config"], .trainer,
      "Dropout of attention probabilities."),
    .init(
      "classifier_dropout", .number, "0", min: 0, max: 0.999, choices: ["from_config"], .trainer,
      "Dropout before the head's linear layer."),
  ]

  private static let optimizer: [OptionDescription] = [
    .init("optimizer", .choice, "adamw", choices: ["adamw", "sgd"], .trainer, "As PyTorch's."),
    .init("learning_rate", .number, "0.001", min: 0, max: 1e6, .trainer, "The base learning rate."),
    .init("weight_decay", .number, "0", min: 0, max: 1e6, .trainer, "Decoupled for adamw."),
    .init("beta1", .number, "0.9", min: 0, max: 0.999999999, .trainer, "AdamW's first decay."),
    .init("beta2", .number, "0.999", min: 0, max: 0.999999999, .trainer, "AdamW's second decay."),
    .init("eps", .number, "1e-8", min: 0, max: 1, .trainer, "AdamW's epsilon; greater than 0."),
    .init(
      "loraplus_lr_ratio", .number, "0", min: 0, max: 1e6, .trainer,
      "LoRA+: B and parameters of one dimension learn at this multiple of learning_rate; biases "
        + "and LayerNorm have no weight decay then; 0: one rate for all."),
    .init(
      "loraplus_lr_embedding", .number, "1e-6", min: 0, max: 1e6, .trainer,
      "LoRA+: the rate of adapters on embeddings."),
    .init(
      "train_a", .boolean, "true", .trainer,
      "false: A of linear modules stays as it is (LoRA-FA)."),
    .init(
      "lorafa_project", .boolean, "false", .trainer,
      "B's gradient times (A A^T + 1e-8 I)^-1 / s^2, as PEFT's LoRA-FA optimizer; with train_a "
        + "false."),
    .init("momentum", .number, "0.9", min: 0, max: 0.999999999, .trainer, "SGD's momentum."),
    .init(
      "max_grad_norm", .number, "1", min: 0, max: 1e30, .trainer,
      "Gradients are scaled down to this global norm; 0: never."),
    .init(
      "schedule", .choice, "linear", choices: ["constant", "linear", "cosine", "jagged_cosine"],
      .trainer,
      "Of the learning rate, after the warm-up, as transformers' schedules. jagged_cosine (ReLoRA): "
        + "a cosine over the run that rises from 0 again after each boundary."),
    .init(
      "schedule_span", .choice, "run", choices: ["run", "cascade"], .trainer,
      "What the schedule and its warm-up span; with cascade both start anew in each cascade and "
        + "there is no re-warm-up."),
    .init(
      "min_lr_ratio", .number, "0", min: 0, max: 1, .trainer,
      "Where the cosines end, as a share of learning_rate."),
    .init(
      "warmup_steps", .integer, "0", min: 0, max: 1e15, .trainer,
      "Steps in which the rate rises from 0."),
    .init(
      "warmup_ratio", .number, "0", min: 0, max: 1, .trainer,
      "The same as a share of all steps, where warmup_steps is 0."),
  ]

  private static let cascade: [OptionDescription] = [
    .init(
      "cascade_unit", .choice, "epoch", choices: ["epoch", "step", "list", "none"], .trainer,
      "What a run counts cascades in; none: one cascade (method lora), or only as "
        + "lorasc_trainer_cascade says."),
    .init(
      "cascade_length", .integer, "1", min: 1, max: 1e15, .trainer,
      "Epochs or optimizer steps of a cascade."),
    .init(
      "cascade_list", .list, "", .trainer,
      "For cascade_unit=list: optimizer steps of each cascade; the last one lasts to the end."),
    .init(
      "slow_rule", .choice, "interpolate", choices: ["interpolate", "ema", "ema_factors"], .trainer,
      "How the fast expert enters the slow one. interpolate: W += mu D. ema: S = (1-mu) S + mu D, "
        + "W += S. ema_factors: the same average of A and of B, W += s B A."),
    .init(
      "slow_rate", .number, "0.5", min: 0, max: 1, .trainer,
      "mu: the share of the fast expert that the slow one takes, in (0, 1]. Provisional default. "
        + "Not lora_alpha."),
    .init(
      "final_slow_rate", .number, "-1", min: -1, max: 1, .trainer,
      "mu of the run's last cascade; negative: as the others."),
    .init(
      "slow_rates", .list, "", .trainer,
      "mu of each cascade in turn, the last one for all that follow; empty: slow_rate."),
    .init(
      "noise", .number, "0.1", min: 0, max: 1e6, .trainer,
      "lambda: strength of the noise on the frozen backbone during a cascade; 0: none."),
    .init(
      "noise_form", .choice, "noisytune", choices: ["noisytune", "gaussian", "row_scaled"],
      .trainer,
      "noisytune: U(-lambda/2, lambda/2) times the matrix's standard deviation. gaussian: normal "
        + "of the same variance. row_scaled: normal with deviation lambda times the row's norm over "
        + "the square root of its length."),
    .init(
      "noise_lifetime", .choice, "removed", choices: ["removed", "persist", "per_step"], .trainer,
      "removed at the merge, or merged with the expert: then the change has full rank; per_step: "
        + "drawn anew for each optimizer step."),
    .init(
      "noise_targets", .choice, "adapted", choices: ["adapted", "all"], .trainer,
      "The adapted matrices, or all of the encoder's linear ones too."),
    .init(
      "reinit", .choice, "new", choices: ["new", "same_a", "keep_a", "only_b"], .trainer,
      "A of the next cascade: drawn anew, cascade 1's initial A again, or the trained A carried "
        + "over; B is 0. only_b (RAC-LoRA): drawn anew and never trained. On embeddings A and B "
        + "change places."),
    .init(
      "boundary_optimizer", .choice, "reset", choices: ["reset", "prune", "keep"], .trainer,
      "The optimizer's state of A, B and DoRA's m at a boundary: zeroed; its smallest values "
        + "zeroed (ReLoRA); or kept."),
    .init(
      "prune_ratio", .number, "0.9", min: 0, max: 1, .trainer,
      "For boundary_optimizer=prune: the share that is zeroed, by magnitude."),
    .init(
      "rewarmup_ratio", .number, "0.1", min: 0, max: 1, .trainer,
      "Share of a cascade's steps, at least one, in which the rate rises again after a boundary: "
        + "step j of w has the factor (j + 1) / (w + 1); 0: none."),
    .init(
      "rewarmup_steps", .integer, "0", min: 0, max: 1e15, .trainer,
      "The same in steps; 0: by rewarmup_ratio (of the cascade's length, or where only the host "
        + "knows that, of the last cascade's)."),
    .init(
      "slow_head", .boolean, "false", .trainer,
      "The slow rule for the head and other modules trained in full: at a boundary they go back "
        + "to old + mu (new - old)."),
  ]
}
