"""The operators of Larq Compute Engine 0.16's builds, and what of a flatbuffer they lack.

`lce_benchmark_model` and the AAR for Android resolve operators by TensorFlow Lite's
`BuiltinOpResolver` and LCE's `RegisterLCECustomOps` (compute-engine,
`larq_compute_engine/tflite/kernels/lce_ops_register.h`); neither brings the Flex delegate. The
wheel's interpreter is built of the same sources, which are those of an earlier TensorFlow than
converts float models here. So this table was read off that interpreter, by handing it flatbuffers
that declare each operator of TensorFlow 2.21's schema in versions 1 to 24. A test does so again.
"""

from typing import Any

from bitat_tf.runtime import operator_name

# Newest version -> the built-in operators that are known up to it.
_BUILTINS = {
    1: """
        ADD_N ASSIGN_VARIABLE ATAN2 BITCAST BITWISE_XOR BROADCAST_ARGS BUCKETIZE CALL_ONCE CEIL
        COMPLEX_ABS CONV_3D CONV_3D_TRANSPOSE COS CUMSUM DENSIFY DILATE DYNAMIC_UPDATE_SLICE ELU
        EMBEDDING_LOOKUP_SPARSE EXPAND_DIMS FLOOR HARD_SWISH HASHTABLE HASHTABLE_FIND
        HASHTABLE_IMPORT HASHTABLE_LOOKUP HASHTABLE_SIZE IF IMAG L2_POOL_2D
        LOCAL_RESPONSE_NORMALIZATION LOGICAL_AND LOGICAL_NOT LOGICAL_OR LSH_PROJECTION MATRIX_DIAG
        MATRIX_SET_DIAG MULTINOMIAL NEG NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 ONE_HOT POW
        PRELU RANDOM_STANDARD_NORMAL RANDOM_UNIFORM RANK READ_VARIABLE REAL REDUCE_ALL REDUCE_ANY
        REDUCE_WINDOW RELU_0_TO_1 RELU_N1_TO_1 RESHAPE REVERSE_SEQUENCE RFFT2D RIGHT_SHIFT ROUND
        SCATTER_ND SEGMENT_SUM SHAPE SIN SKIP_GRAM SQRT SQUARE STABLEHLO_ADD STABLEHLO_GATHER
        STABLEHLO_MAXIMUM STABLEHLO_MINIMUM STABLEHLO_MULTIPLY STABLEHLO_PAD STABLEHLO_REDUCE_WINDOW
        STABLEHLO_RNG_BIT_GENERATOR STABLEHLO_SCATTER UNIQUE UNSORTED_SEGMENT_MAX
        UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM VAR_HANDLE WHILE ZEROS_LIKE
    """,
    2: """
        DEPTH_TO_SPACE DIV EXP FAKE_QUANT FLOOR_MOD GELU GREATER L2_NORMALIZATION LEAKY_RELU
        LESS_EQUAL LOG LOG_SOFTMAX RANGE REDUCE_PROD SELECT_V2 SIGN SPACE_TO_DEPTH SPLIT_V
        SQUARED_DIFFERENCE SQUEEZE SUM WHERE
    """,
    3: """
        ARG_MAX ARG_MIN AVERAGE_POOL_2D BIDIRECTIONAL_SEQUENCE_LSTM BIDIRECTIONAL_SEQUENCE_RNN
        BROADCAST_TO EMBEDDING_LOOKUP FLOOR_DIV GREATER_EQUAL LESS LOGISTIC MAX_POOL_2D MEAN
        MIRROR_PAD NOT_EQUAL QUANTIZE REDUCE_MAX REDUCE_MIN RELU RELU6 REVERSE_V2 RNN RSQRT SOFTMAX
        SPARSE_TO_DENSE TANH TILE TOPK_V2 UNIDIRECTIONAL_SEQUENCE_RNN
    """,
    4: """
        BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION EQUAL FILL LSTM MAXIMUM MINIMUM PACK PAD PADV2
        RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR SELECT SPACE_TO_BATCH_ND SPLIT SVDF
        UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
    """,
    5: """
        ABS ADD DEQUANTIZE GATHER_ND SUB TRANSPOSE_CONV
    """,
    6: """
        CAST SLICE TRANSPOSE
    """,
    7: """
        DEPTHWISE_CONV_2D GATHER MUL
    """,
    8: """
        CONV_2D STRIDED_SLICE
    """,
    11: """
        FULLY_CONNECTED
    """,
}

NEWEST_VERSION = {name: version for version, names in _BUILTINS.items() for name in names.split()}

# LCE's own, and those that BuiltinOpResolver brings (tensorflow/lite/core/kernels/register.cc).
CUSTOM = {
    "LceQuantize",
    "LceDequantize",
    "LceBconv2d",
    "LceBMaxPool2d",
    "NumericVerify",
    "Mfcc",
    "AudioSpectrogram",
    "TFLite_Detection_PostProcess",
}

_INSTEAD = "A phone's LCE refuses the whole flatbuffer: convert without it."


def missing_on_android(model: Any) -> tuple[str, ...]:
    """The operators that LCE's builds for Android lack, a sentence each.

    Args:
        model: a flatbuffer as `runtime.read` gives it.
    """
    found = {}
    for graph in model.subgraphs:
        for operator in graph.operators or []:
            code = model.operatorCodes[operator.opcodeIndex]
            name = operator_name(model, operator)
            reason = _reason(name, bool(code.customCode), int(code.version))
            if reason:
                found[name, code.version] = f"{reason} {_INSTEAD}"
    return tuple(found.values())


def _reason(name: str, custom: bool, version: int) -> str:
    if custom:
        if name in CUSTOM:
            return ""
        if name.startswith("Flex"):
            return f"{name} needs TensorFlow's Flex delegate, which LCE's builds do not have."
        return f"{name} is a custom operator that LCE does not have."
    newest = NEWEST_VERSION.get(name)
    if newest is None:
        return f"{name} is not among the operators of LCE 0.16's TensorFlow Lite."
    if version > newest:
        return f"{name} is of version {version}; LCE 0.16's TensorFlow Lite knows it to {newest}."
    return ""
