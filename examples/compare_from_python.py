"""Compare two methods from Python with the same harness as the command line: same data, same loop, same measures.

Shows `gossamer.training`: a configuration is a record, a run fills a folder, and its results come back as numbers.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from gossamer.report import write_report
from gossamer.training import Config, load_data, train, write_config

BASE = Config(method="dense", data="digits", model="mlp:200x2", sparsity=0.9, epochs=5, batch_size=64)


def main() -> None:
    data = load_data(BASE)
    print(f"{'method':<8}{'accuracy':>10}{'weights':>10}{'file':>16}{'step':>12}")
    with tempfile.TemporaryDirectory() as name:
        for method in ("dense", "rigl"):
            folder = Path(name) / "runs" / method
            folder.mkdir(parents=True)
            config = replace(BASE, method=method)
            write_config(folder / "config.toml", config, command="python compare_from_python.py")
            result = train(config, data, folder)
            print(
                f"{method:<8}{100 * result['final_accuracy']:>8.1f} %{result['num_active']:>10,}"
                f"{result['model_bytes']:>10,} bytes{result['step_ms']:>9.2f} ms"
            )
        page = write_report(Path(name))
        print(f"{page.name}: {page.stat().st_size:,} bytes, one page with every chart, opens without a network")
    print("One seed and a small network: a table to show the harness, not to judge the methods by.")


if __name__ == "__main__":
    main()
