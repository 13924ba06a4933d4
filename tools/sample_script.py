"""The usual sample script, as runtimes' documentation shows it: OpenCV reads, resizes, LiteRT answers. A yardstick.

    python tools/sample_script.py MODEL SOURCE --answers N [--threads N]

Written as people write it, not as edgekit does it: frame by frame in one thread, whole pictures decoded, the aspect
ratio ignored. It prints one JSON line with its answers, wall time and CPU time (all threads, without start-up), and
the CPU time per answer.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main() -> None:
    """Answer so many frames and say what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("source")
    parser.add_argument("--answers", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()

    interpreter = Interpreter(model_path=str(given.model), num_threads=given.threads)
    interpreter.allocate_tensors()
    input_details = interpreter.get_input_details()[0]
    output_details = interpreter.get_output_details()[0]
    _, height, width, _ = input_details["shape"]
    scale, zero_point = input_details["quantization"]
    capture = cv2.VideoCapture(given.source)

    wall, cpu, num_answers, last = 0.0, 0.0, -10, -1  # the first ten warm up
    while num_answers < given.answers:
        if num_answers == 0:
            wall, cpu = time.perf_counter(), time.process_time()
        is_read, frame = capture.read()
        if not is_read:
            raise SystemExit(f"{given.source}: no more frames after {num_answers} answers")
        picture = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), (int(width), int(height)))
        if input_details["dtype"] == np.int8:
            batch = np.clip(np.round((picture / 127.5 - 1.0) / scale + zero_point), -128, 127).astype(np.int8)
        elif input_details["dtype"] == np.uint8:
            batch = picture
        else:
            batch = (picture / 127.5 - 1.0).astype(np.float32)
        interpreter.set_tensor(input_details["index"], batch[np.newaxis])
        interpreter.invoke()
        scores = np.squeeze(interpreter.get_tensor(output_details["index"]))
        last = int(np.argsort(scores)[::-1][:3][0])
        num_answers += 1
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    capture.release()
    print(
        json.dumps(
            {
                "answers": given.answers,
                "wall_s": wall,
                "cpu_s": cpu,
                "cpu_ms_per_answer": cpu / given.answers * 1e3,
                "last_answer": last,
            }
        )
    )


if __name__ == "__main__":
    main()
