package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is the kernel's USER_HZ, which is 100 on every architecture
// that Go runs on.
const ticksPerSecond = 100

// pidList is a list of processes as a flag.
type pidList []int

// String is the flag's text.
func (l *pidList) String() string { return fmt.Sprint([]int(*l)) }

// Set reads 12,34.
func (l *pidList) Set(text string) error {
	for word := range strings.SplitSeq(text, ",") {
		pid, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		*l = append(*l, pid)
	}
	return nil
}

// cpu returns the CPU seconds that the processes have used so far.
func (l *pidList) cpu() (float64, error) {
	sum := 0.0
	for _, pid := range *l {
		seconds, err := cpuOf(pid)
		if err != nil {
			return 0, err
		}
		sum += seconds
	}
	return sum, nil
}

// cpuOf reads utime and stime, the 14th and 15th field of /proc/PID/stat.
func cpuOf(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, which may hold anything.
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: expected 15 fields or more", pid)
	}
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return float64(ticks) / ticksPerSecond, nil
}
