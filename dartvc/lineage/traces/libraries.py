"""What a trace assumes of code that it cannot read, by name: what changes its object, what hands on parts of it, where chance and the world come in.

Libraries follow conventions, and a name says more often than not what a call does. Where it does not, a trace names too much rather than too little; that it was
enough is shown by computing the value again (`dvc-state lineage --recompute`).
"""

from __future__ import annotations

from collections.abc import Collection

__all__ = [
    "OUTSIDE_KINDS",
    "PRINTING",
    "changed_arguments",
    "changes_object",
    "hands_on_arguments",
    "hands_on_object",
    "is_seeding",
    "is_walked_once",
    "outside_of",
    "stream_of",
    "stream_when_used",
]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CHANGING = _names(
    """append extend insert pop popitem remove clear update setdefault add discard sort reverse write writelines writerow writerows send put fit
    fit_transform fit_predict fit_resample partial_fit step backward zero_grad load_state_dict seed shuffle read readline readlines __next__ __setitem__
    train eval requires_grad_ fill resize itemset setflags set_params setattr register_buffer add_module close flush appendleft popleft rotate"""
)
_STREAM_OBJECTS = (
    "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.Generator", "random.Random", "torch.Generator", "builtins.open",
    "builtins.iter", "csv.reader", "csv.writer", "itertools.count", "itertools.cycle", "gzip.open",
)  # fmt: skip
_VIEWS = _names(
    """T view reshape ravel transpose squeeze swapaxes diagonal real imag iloc loc at iat flat values items keys get parameters named_parameters modules
    children buffers state_dict to detach numpy data grad mT unsqueeze expand narrow select permute split chunk base __enter__ __iter__ setdefault pop
    popitem"""
)
_VIEWING = _names(
    """asarray asanyarray ascontiguousarray reshape ravel transpose squeeze expand_dims swapaxes moveaxis atleast_1d atleast_2d broadcast_to split
    array_split hsplit vsplit from_numpy as_tensor frombuffer nditer diagonal iter next enumerate zip reversed map filter list tuple dict set frozenset
    sorted partial vectorize frompyfunc njit jit compile
    getattr vars cycle chain islice product nn_parameters batched tqdm trange deque OrderedDict defaultdict Counter namedtuple cast"""
)
PRINTING = _names(
    """print log info debug warning error exception critical show savefig save dump dumps to_csv to_json to_parquet to_pickle write_text write_bytes pprint
    display"""
)
"""Calls that stand alone in a statement and only show or store what they are given."""
_ARGUMENT_CHANGING = _names(
    """random.shuffle numpy.random.shuffle shuffle numpy.fill_diagonal numpy.put numpy.place numpy.copyto numpy.put_along_axis numpy.add.at numpy.subtract.at
    numpy.maximum.at numpy.minimum.at numpy.multiply.at heapq.heappush heapq.heappop heapq.heapify heapq.heapreplace heapq.heappushpop bisect.insort
    bisect.insort_left bisect.insort_right builtins.setattr builtins.delattr builtins.next"""
)
"""Functions that change what they are given first."""
_HARMLESS_MODULES = ("matplotlib.", "logging.", "warnings.", "sys.", "os.", "gc.", "time.", "json.", "pickle.", "shutil.")
_SEEDING = _names(
    """random.seed numpy.random.seed torch.manual_seed torch.random.manual_seed torch.cuda.manual_seed torch.cuda.manual_seed_all numpy.random.default_rng
    numpy.random.RandomState numpy.random.SeedSequence random.Random tensorflow.random.set_seed jax.random.PRNGKey jax.random.key"""
)
_TORCH_DRAWS = _names(
    """rand randn randint randperm rand_like randn_like randint_like normal bernoulli multinomial poisson dropout uniform_ normal_ xavier_uniform_
    xavier_normal_ kaiming_uniform_ kaiming_normal_ orthogonal_ trunc_normal_ random_split DataLoader Linear Conv1d Conv2d Conv3d Embedding LSTM GRU RNN
    Transformer TransformerEncoderLayer MultiheadAttention LSTMCell GRUCell Bilinear ConvTranspose2d EmbeddingBag"""
)
_DRAWING_LAYERS = _names(
    """DataLoader RandomSampler WeightedRandomSampler Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout RReLU MultiheadAttention
    TransformerEncoderLayer TransformerDecoderLayer Transformer LSTM GRU RNN"""
)
_DRAWING_ESTIMATORS = _names(
    """RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor GradientBoostingClassifier GradientBoostingRegressor
    HistGradientBoostingClassifier HistGradientBoostingRegressor DecisionTreeClassifier DecisionTreeRegressor BaggingClassifier BaggingRegressor
    AdaBoostClassifier AdaBoostRegressor IsolationForest KMeans MiniBatchKMeans MLPClassifier MLPRegressor SGDClassifier SGDRegressor Perceptron TSNE NMF
    GaussianMixture BayesianGaussianMixture LatentDirichletAllocation TruncatedSVD ShuffleSplit StratifiedShuffleSplit RandomizedSearchCV RandomizedPCA
    train_test_split shuffle resample permutation_importance make_classification make_regression make_blobs make_moons make_circles make_friedman1
    make_low_rank_matrix make_sparse_coded_signal RepeatedKFold RepeatedStratifiedKFold"""
)
_STATELESS = _names(
    """numpy.random.default_rng numpy.random.RandomState numpy.random.SeedSequence numpy.random.Generator numpy.random.PCG64 random.Random
    random.SystemRandom"""
)
_OUTSIDE = {
    "time.time": "clock", "time.time_ns": "clock", "time.perf_counter": "clock", "time.perf_counter_ns": "clock", "time.monotonic": "clock", "time.process_time": "clock",
    "datetime.datetime.now": "clock", "datetime.datetime.utcnow": "clock", "datetime.datetime.today": "clock", "datetime.date.today": "clock", "time.strftime": "clock",
    "os.urandom": "entropy", "uuid.uuid4": "entropy", "uuid.uuid1": "entropy",
    "secrets.token_hex": "entropy", "secrets.token_bytes": "entropy", "secrets.randbelow": "entropy",
    "os.getpid": "process", "os.environ": "environment", "os.getenv": "environment", "builtins.input": "terminal", "sys.argv": "command line", "sys.stdin": "terminal",
    "os.listdir": "file system", "os.walk": "file system", "os.scandir": "file system", "glob.glob": "file system", "glob.iglob": "file system", "builtins.id": "process",
    "os.getcwd": "process", "socket.socket": "network", "urllib.request.urlopen": "network", "requests.get": "network", "requests.post": "network",
    "subprocess.run": "another program", "subprocess.check_output": "another program", "subprocess.Popen": "another program", "os.popen": "another program",
}  # fmt: skip


OUTSIDE_KINDS = frozenset(_OUTSIDE.values())
"""What of the world outside a program may ask."""


def changes_object(name: str, origin: str, *, is_unused: bool) -> bool:
    """Whether a method changes the object that it is called on.

    Args:
        name: the method's.
        origin: the dotted name of the call that the object came from; empty where it is not known.
        is_unused: the call is a whole statement: if it changed nothing and printed nothing it would be for nothing.
    """
    if name in PRINTING:
        return False
    return name in _CHANGING or (name.endswith("_") and not name.endswith("__")) or origin in _STREAM_OBJECTS or is_unused


def hands_on_object(name: str) -> bool:
    """Whether what a method gives may be a view of its object, or a part of it."""
    return name in _VIEWS


def hands_on_arguments(name: str) -> bool:
    """Whether what a function of a library gives may have its arguments in it: views, iterators, and objects made from others."""
    last = name.rpartition(".")[2]
    return last in _VIEWING or (last[:1].isupper() and not last.isupper())


def changed_arguments(name: str, count: int, *, is_unused: bool) -> range:
    """Returns which positional arguments a function of a library changes."""
    last = name.rpartition(".")[2]
    if name in _ARGUMENT_CHANGING or last in _ARGUMENT_CHANGING:
        return range(min(1, count))
    if last in PRINTING or name.startswith(_HARMLESS_MODULES):
        return range(0)
    if last.endswith("_") and not last.endswith("__"):
        return range(min(1, count))
    return range(count) if is_unused and not is_seeding(name) else range(0)


def is_seeding(name: str) -> bool:
    """Whether a call sets a random stream to a known place, so that its literals are seeds."""
    return name in _SEEDING


def stream_of(name: str, keywords: Collection[str] = ()) -> str:
    """Returns the global random stream that a call of a library draws from or sets; empty for none."""
    if name in _STATELESS:
        return ""
    module, _, last = name.rpartition(".")
    if module in ("random", "numpy.random"):
        return module
    if module.partition(".")[0] == "torch":
        return "torch" if last in _TORCH_DRAWS or last in ("manual_seed", "manual_seed_all") else ""
    return "numpy.random" if last.islower() and _draws_in_sklearn(module, last, keywords) else ""


def stream_when_used(name: str, keywords: Collection[str]) -> str:
    """Returns the global random stream from which an object that a call gives draws when it is used: loaders, layers, estimators without ``random_state``."""
    module, _, last = name.rpartition(".")
    if module.partition(".")[0] == "torch":
        return "torch" if last in _DRAWING_LAYERS else ""
    return "numpy.random" if not last.islower() and _draws_in_sklearn(module, last, keywords) else ""


def _draws_in_sklearn(module: str, last: str, keywords: Collection[str]) -> bool:
    return module.partition(".")[0] == "sklearn" and last in _DRAWING_ESTIMATORS and "random_state" not in keywords


def outside_of(name: str) -> str:
    """Returns what of the world outside a call asks: the clock, the environment, the terminal; empty for none."""
    return _OUTSIDE.get(name, "")


def is_walked_once(name: str) -> bool:
    """Whether what a call gives is used up by reading it."""
    return name in _STREAM_OBJECTS
